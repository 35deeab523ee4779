"""The data types of otoscope: clips, tasks, batches of audio and token maps.

Shapes use one set of letters in the whole package: B clips, L layers, T time steps, F frequency bands, D width,
C classes, and N = T * F tokens. A token map is always [B, L, T, F, D]; encoders that give a sequence have F = 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

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

    Examples
    --------
    >>> clip = Clip("a", lambda: np.zeros(16000, np.float32), 16000, ("dog",), (), "train")
    >>> clip.audio.shape
    (16000,)
    """

    id: str
    load: Callable[[], Wave]
    rate: int
    labels: tuple[str, ...]
    events: tuple[Event, ...]
    split: str

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


@dataclass(frozen=True)
class TokenShape:
    """The shape of an encoder's tokens, from which a probe is built.

    Parameters
    ----------
    layers : number of layers L.
    freq : number of frequency bands F; 1 for encoders that give a sequence.
    dim : width D.
    has_cls : whether there is a cls token.
    frame_rate : time steps per second (6.25 for patches of 16 frames at a hop of 10 ms).
    """

    layers: int
    freq: int
    dim: int
    has_cls: bool
    frame_rate: float

    def __post_init__(self) -> None:
        if min(self.layers, self.freq, self.dim) < 1 or self.frame_rate <= 0:
            raise ValueError(f"layers, freq and dim must be >= 1 and frame_rate > 0, found {self}")


@dataclass(frozen=True, init=False)
class Tokens:
    """A batch of token maps. Shapes and dtypes are checked on construction.

    Parameters
    ----------
    x : float [B, L, T, F, D]. Tokens.
    mask : bool [B, T]. True at time steps with audio, at least one for each clip; None for all True.
    cls : float [B, L, D]. The cls token of each layer; None for encoders without one.
    is_normalised : whether all tokens and cls tokens have an L2 norm of one.

    Raises
    ------
    ValueError : when a shape or a dtype is wrong, or a clip has no valid time step.

    Examples
    --------
    >>> Tokens(torch.zeros(2, 1, 4, 8, 16)).mask.shape
    torch.Size([2, 4])
    """

    x: Tensor
    mask: Tensor
    cls: Tensor | None
    is_normalised: bool

    def __init__(
        self, x: Tensor, mask: Tensor | None = None, cls: Tensor | None = None, *, is_normalised: bool = False
    ) -> None:
        if x.ndim != 5 or not x.is_floating_point():
            raise ValueError(f"x must be floating [B, L, T, F, D], found {x.dtype} {list(x.shape)}")
        B, L, T, _, D = x.shape
        if mask is None:
            mask = torch.ones(B, T, dtype=torch.bool, device=x.device)
        if mask.dtype != torch.bool or mask.shape != (B, T):
            raise ValueError(f"mask must be bool [B, T] = [{B}, {T}], found {mask.dtype} {list(mask.shape)}")
        if B and not bool(mask.any(1).all()):
            empty = (~mask.any(1)).nonzero().flatten().tolist()
            raise ValueError(f"every clip needs at least one valid time step; clips {empty} of the batch have none")
        if cls is not None and cls.shape != (B, L, D):
            raise ValueError(f"cls must be [B, L, D] = [{B}, {L}, {D}], found {list(cls.shape)}")
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "cls", cls)
        object.__setattr__(self, "is_normalised", is_normalised)

    def __len__(self) -> int:
        return self.x.shape[0]

    @property
    def token_mask(self) -> Tensor:
        """The mask of single tokens, bool [B, N] with N = T * F; time comes before frequency, as in `flat`."""
        B, _, T, F, _ = self.x.shape
        return self.mask[:, :, None].expand(B, T, F).reshape(B, T * F)

    @property
    def flat(self) -> Tensor:
        """The tokens without their arrangement in time and frequency, float [B, L, N, D]."""
        return self.x.flatten(2, 3)

    @property
    def mean(self) -> Tensor:
        """The mean over valid tokens, float [B, L, D]."""
        if self.x.shape[2:4] == (1, 1):
            return self.x[:, :, 0, 0]
        weight = self.mask[:, None, :, None].to(self.x.dtype)
        per_time = self.x.mean(3)
        return (per_time * weight).sum(2) / weight.sum(2)

    @property
    def summary(self) -> Tensor:
        """The cls token, or the mean over valid tokens where there is none, float [B, L, D]."""
        return self.mean if self.cls is None else self.cls

    def select_layers(self, which: Sequence[int]) -> Tokens:
        """Select layers by their indices, in this order; negative indices count from the end."""
        index = [range(self.x.shape[1])[i] for i in which]
        cls = None if self.cls is None else self.cls[:, index]
        return Tokens(self.x[:, index], self.mask, cls, is_normalised=self.is_normalised)

    def select_clips(self, which: Tensor) -> Tokens:
        """Select clips by their indices, int64, in this order."""
        cls = None if self.cls is None else self.cls.index_select(0, which)
        return Tokens(
            self.x.index_select(0, which), self.mask.index_select(0, which), cls, is_normalised=self.is_normalised
        )

    def normalised(self) -> Tokens:
        """Divide every token and cls token by its L2 norm. Tokens of zeros remain zero.

        Returns
        -------
        The normalised tokens, or the same object if it is normalised already.

        Examples
        --------
        >>> Tokens(torch.tensor([3.0, 4.0]).view(1, 1, 1, 1, 2)).normalised().x.flatten().tolist()
        [0.6000000238418579, 0.800000011920929]
        """
        if self.is_normalised:
            return self
        cls = None if self.cls is None else functional.normalize(self.cls, dim=-1)
        return Tokens(functional.normalize(self.x, dim=-1), self.mask, cls, is_normalised=True)

    def pooled(self) -> Tokens:
        """Replace the map by one token for each layer, the mean over valid tokens: x is [B, L, 1, 1, D]."""
        return Tokens(self.mean[:, :, None, None], None, self.cls)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Tokens:
        """Move to a device and cast to a dtype, as `torch.Tensor.to`; the mask remains bool."""
        cls = None if self.cls is None else self.cls.to(device, dtype)
        return Tokens(self.x.to(device, dtype), self.mask.to(device), cls, is_normalised=self.is_normalised)
