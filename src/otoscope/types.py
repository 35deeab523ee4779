"""The nouns of otoscope: clips, audio batches, token maps and tasks.

One tensor language everywhere: B clip, L layer, T time, F frequency, D width, C class, N = T * F.
A token map is always [B, L, T, F, D]; encoders that emit a sequence have F = 1.
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
    """One sound event inside a clip: onset and offset in seconds from the clip's start."""

    onset: float
    offset: float
    label: str

    def __post_init__(self) -> None:
        if not 0 <= self.onset < self.offset:
            raise ValueError(f"event {self.label!r}: need 0 <= onset < offset, found {self.onset} .. {self.offset}")


@dataclass(frozen=True)
class Clip:
    """One labelled recording; the audio is decoded only when `audio` is read.

    `load` returns mono float32 of shape [S] at `rate` Hz; `events` may be empty where a data set has clip labels only.

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
        """The samples, float32 [S]."""
        return self.load()


@dataclass(frozen=True)
class Task:
    """What a data set asks: its classes in order, whether clips carry one or many, and the name of the main score.

    `metric` is a metric of `otoscope.metrics`; `otoscope.metrics.main_metric` refuses an unknown or unfitting one.
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
        """Multi-hot labels of `clips`, float32 [len(clips), C]; a label outside `classes` is an error."""
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
    """Waveforms padded with zeros to one length: `waves` float [B, S], `lengths` int64 [B] in samples, `rate` in Hz."""

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
        """Pad a list of [S_i] waveforms into one batch.

        >>> AudioBatch.of([np.zeros(3, np.float32), np.ones(5, np.float32)], 16000).lengths.tolist()
        [3, 5]
        """
        lengths = torch.tensor([len(w) for w in waves])
        padded = torch.nn.utils.rnn.pad_sequence([torch.as_tensor(w, dtype=torch.float32) for w in waves], True)
        return cls(padded, lengths, rate)


@dataclass(frozen=True)
class TokenShape:
    """What an encoder emits, or a bank holds: everything a probe may need to know to be built.

    `frame_rate` counts token columns per second (6.25 for 16-frame patches at a 10 ms hop).
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
    """A batch of token maps.

    x: [B, L, T, F, D] floating; mask: [B, T] bool, True where there is audio, at least one per clip (None: all True);
    cls: [B, L, D] or None. Checked on construction. `is_normalised`: every token and cls has length one (see `normalises_tokens`).

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
        """Validity of every token, bool [B, N] with N = T * F (time-major, as `flat`)."""
        B, _, T, F, _ = self.x.shape
        return self.mask[:, :, None].expand(B, T, F).reshape(B, T * F)

    @property
    def flat(self) -> Tensor:
        """The map as a set of tokens, [B, L, N, D]."""
        return self.x.flatten(2, 3)

    @property
    def mean(self) -> Tensor:
        """Mean over valid tokens, [B, L, D]."""
        if self.x.shape[2:4] == (1, 1):
            return self.x[:, :, 0, 0]
        weight = self.mask[:, None, :, None].to(self.x.dtype)
        per_time = self.x.mean(3)
        return (per_time * weight).sum(2) / weight.sum(2)

    @property
    def summary(self) -> Tensor:
        """The cls token, or the masked mean where the encoder has none, [B, L, D]."""
        return self.mean if self.cls is None else self.cls

    def select_layers(self, which: Sequence[int]) -> Tokens:
        """Only the layers of these indices (negative from the end), in this order."""
        index = [range(self.x.shape[1])[i] for i in which]
        cls = None if self.cls is None else self.cls[:, index]
        return Tokens(self.x[:, index], self.mask, cls, is_normalised=self.is_normalised)

    def select_clips(self, which: Tensor) -> Tokens:
        """Only the clips of these indices, in this order."""
        cls = None if self.cls is None else self.cls.index_select(0, which)
        return Tokens(
            self.x.index_select(0, which), self.mask.index_select(0, which), cls, is_normalised=self.is_normalised
        )

    def normalised(self) -> Tokens:
        """Every token and cls divided by its length, a zero left as it is; itself where that was done before.

        >>> Tokens(torch.tensor([3.0, 4.0]).view(1, 1, 1, 1, 2)).normalised().x.flatten().tolist()
        [0.6000000238418579, 0.800000011920929]
        """
        if self.is_normalised:
            return self
        cls = None if self.cls is None else functional.normalize(self.cls, dim=-1)
        return Tokens(functional.normalize(self.x, dim=-1), self.mask, cls, is_normalised=True)

    def pooled(self) -> Tokens:
        """One token per layer, the masked mean: [B, L, 1, 1, D]; what probes of global vectors need, and no more."""
        return Tokens(self.mean[:, :, None, None], None, self.cls)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Tokens:
        """Moved and cast; the mask stays bool."""
        cls = None if self.cls is None else self.cls.to(device, dtype)
        return Tokens(self.x.to(device, dtype), self.mask.to(device), cls, is_normalised=self.is_normalised)
