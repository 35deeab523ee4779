"""Encoding of clips when they are requested, with the loaders of an extraction and the cast of a bank."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, cached_property

import torch
from torch import Tensor

from otoscope.bank._encode import FrozenEncoder, Loaded, Stopwatch, count_steps
from otoscope.bank._loader import ClipLoader, loaded
from otoscope.bank._pipeline import Loading, batching, encoded_batches
from otoscope.bank._shard import ShardContent, layout_bytes, shard_layout
from otoscope.bank._store import joined, stored
from otoscope.bank._turns import Batches, Tensors, current_turn, pick_layers
from otoscope.bank.errors import BankError
from otoscope.bank.identity import BankIdentity
from otoscope.datasets.waveform import waveform
from otoscope.encoders import Encoder
from otoscope.types import Clip
from otoscope.warning import warn

KEPT_BYTES = 2 * 1024**3
"""Largest size of the tokens of a split, in the dtype of the bank, that are kept in memory after the first pass."""

_SHOWN_CLIPS = 256
"""A pass over fewer clips shows no progress bar."""


def kept_in_memory(size: int) -> bool:
    """Whether the tokens of a split that take `size` bytes in the dtype of the bank are kept after the first pass."""
    return size <= KEPT_BYTES


class _Lengths:
    """Loads the length of a clip, for `loaded`.

    Parameters
    ----------
    rate : int. Sampling rate in Hz.
    """

    def __init__(self, rate: int) -> None:
        self._rate, self.watch = rate, Stopwatch()

    def load(self, clip: Clip) -> Loaded:
        """Decode a clip and return its number of samples."""
        return Loaded(len(waveform(clip, self._rate)), None, None)


class ClipEncoder:
    """An encoder that encodes clips when they are requested.

    Parameters
    ----------
    encoder : Encoder. The frozen encoder.
    loading : Loading. How clips go through the encoder.
    progress : bool. Whether passes over many clips show a progress bar on stderr.

    Attributes
    ----------
    rate : int. Sampling rate of the encoder in Hz.
    speed : float. Seconds of audio that are encoded in a second; `measure` estimates it.
    """

    def __init__(self, encoder: Encoder, loading: Loading, *, progress: bool) -> None:
        self._encoder, self._loading, self._progress = encoder, loading, progress
        self._frozen = FrozenEncoder(encoder, compiled=loading.compiled)
        self._batches = batching(encoder, loading)
        self._steps: dict[int, int] = {}
        self.rate = encoder.sample_rate
        self.speed = float("nan")

    def measure(self, clips: Sequence[Clip], identity: BankIdentity) -> None:
        """Encode a few clips and set `speed`.

        Parameters
        ----------
        clips : sequence of Clip. Clips of one split.
        identity : BankIdentity. The bank.
        """
        start = time.perf_counter()
        clip_parts = [self._frozen.load(clip) for clip in clips]
        loading_seconds = (time.perf_counter() - start) / max(1, self._loading.workers or 1)
        seconds = sum(part.samples for part in clip_parts) / self.rate
        start = time.perf_counter()
        self.encode(clips, iter(clip_parts), identity)
        self.speed = seconds / (loading_seconds + time.perf_counter() - start)

    @contextmanager
    def loading(self, clips: Sequence[Clip]) -> Iterator[Iterator[Loaded]]:
        """Load clips in order, ahead of the encoder where there are workers, with a progress bar."""
        with self._loaded(clips, self._frozen, "encoding on the fly") as in_order:
            yield in_order

    def encode(
        self, clips: Sequence[Clip], in_order: Iterator[Loaded], identity: BankIdentity, steps: int | None = None
    ) -> ShardContent:
        """Encode clips into the tensors that a bank stores.

        Parameters
        ----------
        clips : sequence of Clip. The clips.
        in_order : iterator of Loaded. Their audio is taken from it.
        identity : BankIdentity. Its layers, content and dtype decide the tensors.
        steps : int. Time steps of the result; None for those of the longest clip.

        Returns
        -------
        ShardContent. The tensors of `shard_layout`.

        Raises
        ------
        AudioError, BankError : as in an extraction.
        """
        parts: list[tuple[list[int], ShardContent]] = []
        for batch in encoded_batches([clips], in_order, self._frozen, self._batches, identity.layers):
            part, first = stored(batch.tokens, identity, batch.clips), batch.clips[0]
            if steps and part.tensors["mask"].shape[1] > steps:
                raise BankError(
                    f"encoder {identity.encoder!r} gives clip {first.id!r} of split {first.split!r} "
                    f"{batch.tokens.x.shape[2]} time steps, but a clip at least as long has {steps}: use a stored bank"
                )
            parts.append((batch.rows, part))
        return joined(parts, len(clips), identity, steps)

    def count_samples(self, clips: Sequence[Clip]) -> list[int]:
        """Decode clips and return the number of samples of each, at the rate of the encoder."""
        with self._loaded(clips, _Lengths(self.rate), "measuring lengths") as in_order:
            return [clip.samples for clip in in_order]

    def shard_steps(self, clips: Sequence[Clip], samples: Sequence[int], shards: Sequence[range]) -> list[int]:
        """Count the time steps of the longest clip of each shard. One clip of each longest length is encoded.

        Parameters
        ----------
        clips : sequence of Clip. The clips of a split.
        samples : sequence of int. What `count_samples` returned for them.
        shards : sequence of range. The rows of the clips of each shard.
        """
        steps = []
        for rows in shards:
            longest = max(rows, key=samples.__getitem__)
            if samples[longest] not in self._steps:
                self._steps[samples[longest]] = count_steps(self._encoder, [clips[longest]])
            steps.append(self._steps[samples[longest]])
        return steps

    @contextmanager
    def _loaded(self, clips: Sequence[Clip], clip_loader: ClipLoader, description: str) -> Iterator[Iterator[Loaded]]:
        """`otoscope.bank._loader.loaded` with a progress bar, unless the clips are few."""
        from tqdm import tqdm

        show = self._progress and len(clips) >= _SHOWN_CLIPS
        workers = self._loading.worker_count(len(clips), self._frozen.device)
        with (
            loaded(clips, clip_loader, workers) as in_order,
            tqdm(total=len(clips), desc=description, unit="clip", disable=not show, leave=False) as bar,
        ):
            yield _counted(in_order, bar.update)


class EncodingReader:
    """Encodes rows of one split as they are requested. It gives the tensors that `ShardReader` reads from a bank.

    A split of at most `KEPT_BYTES` is encoded once and kept in memory.

    Parameters
    ----------
    identity : BankIdentity. Identity of the bank.
    clips : sequence of Clip. The clips of the split, in order.
    clip_encoder : ClipEncoder. What encodes them.

    Attributes
    ----------
    clip_encoder : ClipEncoder. What encodes the clips.
    shard_of, row_bytes, steps : those of the `ShardReader` of the bank.
    fits : bool. Whether the tokens are kept in memory.
    clip_seconds : float. Mean duration of a clip in seconds; 0 where pooled vectors are stored, which are encoded once.
    """

    def __init__(self, identity: BankIdentity, clips: Sequence[Clip], clip_encoder: ClipEncoder) -> None:
        self._identity, self._clips, self.clip_encoder = identity, clips, clip_encoder
        size, n = identity.shard_clips, len(clips)
        self._shards = [range(start, min(start + size, n)) for start in range(0, n, size)]
        steps, self.clip_seconds = [1] * len(self._shards), 0.0
        if identity.content == "tokens":
            samples = clip_encoder.count_samples(clips)
            steps = clip_encoder.shard_steps(clips, samples, self._shards)
            self.clip_seconds = sum(samples) / n / clip_encoder.rate
        self.shard_of = torch.arange(n) // size
        sizes = [(len(rows), T) for rows, T in zip(self._shards, steps, strict=True)]
        self.row_bytes = torch.tensor([layout_bytes(count, T, identity) // count for count, T in sizes])
        self.steps = max(steps)
        self.fits = kept_in_memory(int(self.row_bytes[self.shard_of].sum()))
        self._warned = False

    def __len__(self) -> int:
        return len(self._clips)

    def read(self, rows: Sequence[int], layers: list[int] | None = None) -> dict[str, Tensor]:
        """See `ShardReader.read`; the clips are encoded, unless they are in memory."""
        with self.reading([rows], layers) as tensors:
            return next(tensors)

    @contextmanager
    def reading(self, batches: Batches, layers: Sequence[int] | None = None) -> Iterator[Iterator[Tensors]]:
        """Read batches of rows, one after another, inside a `with` block. Loader workers decode ahead.

        Parameters
        ----------
        batches : sequence of sequences of int. The rows of each batch.
        layers : sequence of int, or None for all. Indices within the layers of the bank.

        Yields
        ------
        iterator of dict. What `read` returns for each batch.
        """
        chosen = list(range(self._identity.shape.layers)) if layers is None else list(layers)
        turn = current_turn()
        if self.fits:
            kept = self._kept
            yield (pick_layers({name: t[list(rows)] for name, t in kept.items()}, chosen) for rows in batches)
        elif turn is not None:
            with turn.reading(self, batches, chosen) as tensors:
                yield tensors
        else:
            with self.encoding(batches, chosen) as tensors:
                yield tensors

    @contextmanager
    def encoding(self, batches: Batches, layers: Sequence[int]) -> Iterator[Iterator[Tensors]]:
        """Encode batches of rows, one after another; the arguments are as in `reading`."""
        identity = _with_layers(self._identity, tuple(layers))
        with self.clip_encoder.loading([self._clips[row] for rows in batches for row in rows]) as in_order:
            yield (self._encode(rows, in_order, identity) for rows in batches)

    def _encode(self, rows: Sequence[int], in_order: Iterator[Loaded], identity: BankIdentity) -> Tensors:
        content = self.clip_encoder.encode([self._clips[row] for row in rows], in_order, identity, self.steps)
        if content.underflowed and not self._warned:
            self._warned = True
            warn(
                f"{content.underflowed} tokens of the first {len(rows)} clips in which this occurs are not zero and "
                f"were rounded to zeros in {identity.dtype}; choose dtype='bfloat16' or 'float32' if they matter"
            )
        return content.tensors

    @cached_property
    def _kept(self) -> Tensors:
        """The tensors of all rows, from one pass in the batches of an extraction."""
        planned = shard_layout(len(self), self.steps, self._identity)
        kept = {name: torch.zeros(shape, dtype=dtype) for name, (dtype, shape) in planned.items()}
        with self.encoding(self._shards, range(self._identity.shape.layers)) as encoded:
            for rows, tensors in zip(self._shards, encoded, strict=True):
                for name, values in tensors.items():
                    kept[name][rows.start : rows.stop] = values
        return kept


def _counted(clips: Iterator[Loaded], update: Callable[[], object]) -> Iterator[Loaded]:
    """Yield clips, and call a function after each of them."""
    for clip in clips:
        yield clip
        update()


@cache
def _with_layers(identity: BankIdentity, layers: tuple[int, ...]) -> BankIdentity:
    """The identity of a bank with some of its layers."""
    index = tuple(identity.layers[layer] for layer in layers)
    return replace(identity, layers=index, shape=replace(identity.shape, layers=len(index)))
