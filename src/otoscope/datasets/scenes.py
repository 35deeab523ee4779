"""The data set `scenes`, which ships with the package: scenes that are mixed from real recordings when they are read.

A scene lasts ten seconds. It has one to six sound events of 36 classes (animals, people, objects, drums, instruments),
which may overlap, over a quiet background. Onset and offset of every event are known. The mixing follows URBAN-SED
(Salamon et al., "Scaper: A library for soundscape synthesis and augmentation", WASPAA 2017).
`scenes_data/ATTRIBUTION.md` gives the source and licence of each recording.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial

from otoscope.datasets import _scenes_mix as mix
from otoscope.datasets._scenes_effects import RATE
from otoscope.datasets.base import Dataset, register
from otoscope.registry import unknown
from otoscope.types import HELD_OUT, Clip, Task


@register("scenes")
class Scenes(Dataset):
    """Scenes of 10 s at 16 kHz, mixed from short recordings of 36 classes; multi-label, with events.

    A scene depends only on the seed, its split and its number, so a larger data set begins with the scenes of a smaller
    one. A recording is used in one split only, but in several of its scenes; the groups of a scene are the recordings
    of its events. Labels and events are known without rendering any audio.

    Parameters
    ----------
    train, validation, test : number of scenes of each split.
    seed : seed from which all scenes are drawn.

    Raises
    ------
    ValueError : when an option is not a whole number of at least 0.

    Examples
    --------
    >>> scenes = Scenes(train=2, validation=1, test=1)
    >>> clip = scenes.clips("train")[0]
    >>> clip.audio.shape, clip.rate, set(clip.labels) == {event.label for event in clip.events}
    ((160000,), 16000, True)
    """

    revision = 1

    def __init__(self, *, train: int = 1000, validation: int = 200, test: int = 300, seed: int = 0) -> None:
        self._counts = {"train": train, "validation": validation, HELD_OUT: test}
        for option, value in {**self._counts, "seed": seed}.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"scenes: {option} must be a whole number >= 0, found {value!r}")
        self._seed = seed
        self._cache: dict[str, tuple[Clip, ...]] = {}
        self.task = Task(mix.classes(), "multi-label", "mAP")

    @property
    def digest(self) -> str:
        """The sha256 over the list of recordings with their own sha256, the version of the mixer and the options."""
        recordings = hashlib.sha256((mix.DATA / "recordings.json").read_bytes()).hexdigest()
        content = {"recordings": recordings, "mixer": mix.VERSION, **self._counts, "seed": self._seed}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def clips(self, split: str) -> Sequence[Clip]:
        """Return the scenes of one split in the order of their numbers, as `Dataset.clips`."""
        if split not in self._counts:
            raise ValueError(f"scenes: {unknown('split', split, self.splits)}")
        if split not in self._cache:
            self._cache[split] = tuple(self._clip(split, index) for index in range(self._counts[split]))
        return self._cache[split]

    def _clip(self, split: str, index: int) -> Clip:
        plan = mix.plan(self._seed, split, index)
        labels = tuple(sorted({event.label for event in plan.events}))
        load, groups = partial(mix.render, plan), plan.recordings
        return Clip(f"{split}-{index:05d}", load, RATE, labels, plan.events, split, groups)
