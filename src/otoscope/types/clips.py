"""Clips, tasks and batches of audio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Wave = npt.NDArray[np.float32]

HELD_OUT = "test"
"""Name of the held-out split, which only the evaluation opens."""


@dataclass(frozen=True)
class Event:
    """A sound event inside a clip.

    Parameters
    ----------
    onset, offset : beginning and end in seconds from the start of the clip, 0 <= onset < offset.
    label : class of the event.
    """

    onset: float
    offset: float
    label: str

    def __post_init__(self) -> None:
        if not 0 <= self.onset < self.offset:
            raise ValueError(
                f"event {self.label!r}: 0 <= onset < offset is required, found {self.onset} .. {self.offset}"
            )


@dataclass(frozen=True)
class Clip:
    """A labelled recording.

    Parameters
    ----------
    id : an identifier that is unique in the data set.
    load : a function that returns the samples, mono float32 [S]. It is called whenever `audio` is read.
    rate : sample rate in Hz.
    labels : classes of the clip.
    events : sound events with their extent; empty where a data set has labels of clips only.
    split : name of the split to which the clip belongs.
    groups : identifiers of what the clip was made from or recorded with, such as recordings, speakers or sites. Clips
        with a common group are not independent: intervals are computed by resampling groups. Empty where clips are
        independent of each other.

    Raises
    ------
    ValueError : when `groups` is not a tuple of distinct texts that are not empty.

    Examples
    --------
    >>> clip = Clip("a", lambda: np.zeros(16000, np.float32), 16000, ("dog",), (), "train", ("speaker-7",))
    >>> clip.audio.shape
    (16000,)
    """

    id: str
    load: Callable[[], Wave]
    rate: int
    labels: tuple[str, ...]
    events: tuple[Event, ...]
    split: str
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        texts = isinstance(self.groups, tuple) and all(isinstance(name, str) and name for name in self.groups)
        if not texts or len(set(self.groups)) < len(self.groups):
            raise ValueError(
                f"clip {self.id!r}: groups must be a tuple of distinct texts that are not empty, "
                f'found {self.groups!r}; one group is written ("speaker-7",)'
            )

    @property
    def audio(self) -> Wave:
        """The samples, float32 [S], decoded at every access."""
        return self.load()


@dataclass(frozen=True)
class Task:
    """The task of a data set.

    Parameters
    ----------
    classes : the classes; their order is that of the targets.
    kind : "multi-class" if every clip has exactly one label, else "multi-label".
    metric : name of the metric that is the main score. `otoscope.metrics.main_metric` raises an error for a name that
        is not registered and for a metric that does not apply to tasks of this kind.
    """

    classes: tuple[str, ...]
    kind: Literal["multi-label", "multi-class"]
    metric: str

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes) or not self.classes:
            raise ValueError(f"a task needs at least one class, all distinct; found {self.classes}")
        if self.kind not in ("multi-label", "multi-class"):
            raise ValueError(f"task kind {self.kind!r}; allowed: 'multi-label', 'multi-class'")

    def targets(self, clips: Sequence[Clip]) -> Tensor:
        """Encode the labels of clips as a multi-hot matrix.

        Parameters
        ----------
        clips : B clips.

        Returns
        -------
        float32 [B, C]. 1 where the clip has the label of the class, else 0.

        Raises
        ------
        ValueError : when a label is not one of `classes`.
        """
        column = {name: i for i, name in enumerate(self.classes)}
        hot = torch.zeros(len(clips), len(self.classes))
        for row, clip in enumerate(clips):
            for label in clip.labels:
                if label not in column:
                    raise ValueError(f"clip {clip.id!r}: label {label!r} is not one of the {len(column)} classes")
                hot[row, column[label]] = 1
        return hot


@dataclass(frozen=True)
class AudioBatch:
    """Waveforms padded with zeros to a common length.

    Parameters
    ----------
    waves : float [B, S]. Samples.
    lengths : int64 [B]. Number of valid samples of each clip, from 1 to S.
    rate : sample rate in Hz.

    Raises
    ------
    ValueError : when a shape, a dtype or a length is wrong.
    """

    waves: Tensor
    lengths: Tensor
    rate: int

    def __post_init__(self) -> None:
        if self.waves.ndim != 2 or not self.waves.is_floating_point():
            raise ValueError(f"waves must be float [B, S], found {self.waves.dtype} {list(self.waves.shape)}")
        if self.lengths.shape != self.waves.shape[:1]:
            raise ValueError(f"lengths must be [B] = [{len(self.waves)}], found {list(self.lengths.shape)}")
        if len(self.lengths) and not (int(self.lengths.min()) > 0 and int(self.lengths.max()) <= self.waves.shape[1]):
            raise ValueError(f"lengths must lie in 1..{self.waves.shape[1]}, found {self.lengths.tolist()}")

    @classmethod
    def of(cls, waves: Sequence[Wave], rate: int) -> AudioBatch:
        """Pad waveforms to a common length and make a batch of them.

        Parameters
        ----------
        waves : one float32 [S_i] for each clip.
        rate : sample rate in Hz.

        Examples
        --------
        >>> AudioBatch.of([np.zeros(3, np.float32), np.ones(5, np.float32)], 16000).lengths.tolist()
        [3, 5]
        """
        lengths = torch.tensor([len(w) for w in waves])
        padded = torch.nn.utils.rnn.pad_sequence([torch.as_tensor(w, dtype=torch.float32) for w in waves], True)
        return cls(padded, lengths, rate)
