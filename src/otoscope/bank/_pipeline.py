"""The work of an extraction: clips from the loader, batches through the encoder, tokens to the threads that store.

Batches are formed within a shard, and depend only on the lengths of its clips. A shard therefore has the same bytes
whether the extraction was interrupted or not, and whoever decodes the audio.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import torch

from otoscope.bank._batches import BatchLimit, equal_length_batches, padded_batches
from otoscope.bank._encode import FrozenEncoder, Loaded, Stopwatch, device_of
from otoscope.bank._loader import WAITING_VALUES, default_workers, loaded
from otoscope.bank._store import ShardWriter
from otoscope.bank.extraction import Extraction
from otoscope.bank.identity import BankIdentity
from otoscope.encoders import Encoder, Features
from otoscope.types import Clip, Tokens

Item = TypeVar("Item")
Batching = Callable[[Sequence[int]], Iterable[list[int]]]
"""Divides clips, given by their lengths in samples, into batches of indices."""


@dataclass(frozen=True)
class Shard:
    """A shard to write.

    Parameters
    ----------
    name : str. Its path relative to the bank.
    clips : sequence of Clip. Its clips, in order.
    """

    name: str
    clips: Sequence[Clip]


@dataclass(frozen=True)
class Loading:
    """How clips go through the encoder. None of it changes tokens by more than rounding.

    Parameters
    ----------
    batch_size : int. Maximum number of clips encoded at once.
    batch_seconds : float. Maximum duration of the clips encoded at once, padding included.
    workers : int, or None to choose. Number of processes that load clips.
    compiled : bool. Whether the encoder is compiled.
    sharing : int. Number of processes that extract at the same time on this machine; each chooses fewer workers.
    """

    batch_size: int = 16
    batch_seconds: float = 320.0
    workers: int | None = None
    compiled: bool = False
    sharing: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if not self.batch_seconds > 0:
            raise ValueError(f"batch_seconds must be above 0, got {self.batch_seconds}")
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"loader_workers must be at least 0, got {self.workers}")

    def worker_count(self, clips: int, device: torch.device) -> int:
        """The number of processes that load this number of clips for an encoder on this device."""
        return default_workers(clips, device, self.sharing) if self.workers is None else self.workers


def write_shards(
    path: Path,
    shards: Sequence[Shard],
    encoder: Encoder,
    identity: BankIdentity,
    loading: Loading,
    *,
    check_space: Callable[[int], None],
    on_batch: Callable[[int], object],
    stop: Callable[[], bool] = lambda: False,
) -> Extraction:
    """Encode the clips of shards and write the shards, one after another.

    Parameters
    ----------
    path : Path. The folder of the bank.
    shards : sequence of Shard. The shards.
    encoder : Encoder. The frozen encoder.
    identity : BankIdentity. The bank.
    loading : Loading. How clips go through the encoder.
    check_space : callable. See `ShardWriter`.
    on_batch : callable. Called after each batch with its number of clips.
    stop : callable. Called before the first shard and after each; if it returns True, no more shards are written.

    Returns
    -------
    Extraction. What was done, and how long it took.

    Raises
    ------
    AudioError : when a clip's audio cannot be used.
    BankError : when the tokens cannot be stored. Both errors name the clip.
    """
    clips = [clip for shard in shards for clip in shard.clips]
    device, start, samples = device_of(encoder), time.perf_counter(), 0
    workers = loading.worker_count(len(clips), device)
    watch, done = Stopwatch(), 0
    frozen = FrozenEncoder(encoder, compiled=loading.compiled, watch=watch)
    batches = batching(encoder, loading)
    parts = [] if stop() else [shard.clips for shard in shards]
    with (
        loaded(clips, frozen, workers) as in_order,
        ShardWriter(path, identity, check_space) as writer,
        closing(encoded_batches(parts, in_order, frozen, batches, identity.layers)) as encoded,
    ):
        for batch in encoded:
            done, samples = done + len(batch.clips), samples + batch.samples
            with watch.measure("storing"):
                writer.add(batch.rows, batch.tokens, batch.clips)
                if batch.is_last:
                    writer.finish(shards[batch.part].name, len(parts[batch.part]))
            on_batch(len(batch.clips))
            if batch.is_last and stop():
                break
        with watch.measure("storing"):
            writer.wait()
    return Extraction(
        clips=done,
        audio_seconds=samples / encoder.sample_rate,
        seconds=dict(watch.seconds) | {"total": time.perf_counter() - start},
        device=str(device),
        threads=torch.get_num_threads(),
        loader_workers=workers,
        batch_size=loading.batch_size,
        batch_seconds=loading.batch_seconds,
        compiled=loading.compiled,
    )


class EncodedBatch(NamedTuple):
    """A batch that the encoder has encoded.

    Parameters
    ----------
    part : int. The number of its part, from 0.
    rows : list of int. Rows of its clips among all clips of the part.
    clips : list of Clip. Its clips.
    samples : int. Samples of its clips, without padding.
    tokens : Tokens. Their tokens on the device of the encoder.
    is_last : bool. Whether it is the last batch of the part.
    """

    part: int
    rows: list[int]
    clips: list[Clip]
    samples: int
    tokens: Tokens
    is_last: bool


def encoded_batches(
    parts: Sequence[Sequence[Clip]],
    in_order: Iterator[Loaded],
    frozen: FrozenEncoder,
    batches: Batching,
    layers: Sequence[int],
) -> Generator[EncodedBatch, None, None]:
    """Encode clips batch by batch. Beside a GPU, a thread prepares the features of the next batch.

    Parameters
    ----------
    parts : sequence of sequences of Clip. The clips, divided into parts. A batch has clips of one part only.
    in_order : iterator of Loaded. The first ones that it yields are these clips; no more are taken.
    frozen : FrozenEncoder. The encoder.
    batches : callable. What `batching` returned.
    layers : sequence of int. Layers to return.
    """

    def prepared() -> Iterator[tuple[int, list[int], list[Clip], int, Features]]:
        for part, clips in enumerate(parts):
            for rows, group in groups(islice(in_order, len(clips))):
                for batch in batches([clip.samples for clip in group]):
                    index, chosen = [rows[i] for i in batch], [group[i] for i in batch]
                    members = [clips[row] for row in index]
                    samples = sum(clip.samples for clip in chosen)
                    yield part, index, members, samples, frozen.features(members, chosen)

    missing = [len(clips) for clips in parts]
    with frozen.encoder.evaluation():  # here, because `features` and `embed` run in two threads
        for part, rows, members, samples, features in prepared() if frozen.loads_features else one_ahead(prepared()):
            missing[part] -= len(rows)
            tokens = frozen.embed(members, features, layers)
            yield EncodedBatch(part, rows, members, samples, tokens, not missing[part])


def one_ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """Yield items, while a thread computes the next one. An error of the thread is raised here."""
    with ThreadPoolExecutor(1, "otoscope-next-batch") as thread:
        end = object()
        following = thread.submit(next, items, end)
        while (item := following.result()) is not end:
            following = thread.submit(next, items, end)
            yield cast(Item, item)


def batching(encoder: Encoder, loading: Loading) -> Batching:
    """The function that divides clips, given by their lengths, into batches."""
    limit = BatchLimit(loading.batch_size, int(loading.batch_seconds * encoder.sample_rate))
    if encoder.padding_neutral:
        return lambda lengths: padded_batches(lengths, limit, encoder.padded_length)
    return lambda lengths: equal_length_batches(lengths, limit)


def groups(clips: Iterable[Loaded]) -> Iterator[tuple[range, list[Loaded]]]:
    """Divide loaded clips into groups that end when they exceed `WAITING_VALUES`, with their rows.

    A shard is one group unless its clips are long. The clips of a group are in memory together.
    """
    group: list[Loaded] = []
    first, values = 0, 0
    for row, clip in enumerate(clips):
        group.append(clip)
        values += clip.values
        if values >= WAITING_VALUES:
            yield range(first, row + 1), group
            group, first, values = [], row + 1, 0
    if group:
        yield range(first, first + len(group)), group
