"""Scenes: the data set that comes inside the package, mixed on the fly from real recordings.

Ten seconds, one to six sound events of 36 classes (animals, people, things, drums, instruments), possibly at once,
over a quiet background, with the extent of every event; in the manner of URBAN-SED (Salamon et al., "Scaper: A library
for soundscape synthesis and augmentation", WASPAA 2017). Where each recording comes from and under which licence:
`scenes_data/ATTRIBUTION.md`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial

from otoscope.datasets import _scenes_mix as mix
from otoscope.datasets.base import Dataset, register
from otoscope.registry import unknown
from otoscope.types import HELD_OUT, Clip, Task


@register("scenes")
class Scenes(Dataset):
    """Mixed scenes of 10 s at 16 kHz; `train`, `validation` and `test` say how many, `seed` which ones.

    A scene depends on `seed`, its split and its number alone, so that a larger data set begins with a smaller one, and
    a recording is heard in scenes of one split only. Labels and events are known before any audio is made.

    >>> scenes = Scenes(train=2, validation=1, test=1)
    >>> clip = scenes.clips("train")[0]
    >>> clip.audio.shape, clip.rate, set(clip.labels) == {event.label for event in clip.events}
    ((160000,), 16000, True)
    """

    def __init__(self, *, train: int = 1000, validation: int = 200, test: int = 300, seed: int = 0) -> None:
        self._counts = {"train": train, "validation": validation, HELD_OUT: test}
        for option, value in {**self._counts, "seed": seed}.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"scenes: {option} must be a whole number >= 0, found {value!r}")
        self._seed = seed
        self._made: dict[str, tuple[Clip, ...]] = {}
        self.task = Task(mix.classes(), "multi-label", "mAP")

    @property
    def digest(self) -> str:
        """sha256 over the recordings (their own sha256, class and split), the mixer's version and the options."""
        recordings = hashlib.sha256((mix.DATA / "recordings.json").read_bytes()).hexdigest()
        made_of = {"recordings": recordings, "mixer": mix.VERSION, **self._counts, "seed": self._seed}
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()

    def clips(self, split: str) -> Sequence[Clip]:
        """The scenes of one split, in order of their number. Raises `ValueError` for an unknown split."""
        if split not in self._counts:
            raise ValueError(f"scenes: {unknown('split', split, self.splits)}")
        if split not in self._made:
            self._made[split] = tuple(self._clip(split, index) for index in range(self._counts[split]))
        return self._made[split]

    def _clip(self, split: str, index: int) -> Clip:
        plan = mix.plan(self._seed, split, index)
        labels = tuple(sorted({event.label for event in plan.events}))
        return Clip(f"{split}-{index:05d}", partial(mix.render, plan), mix.RATE, labels, plan.events, split)
