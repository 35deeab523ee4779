"""Filling a bank: one augmentation-free pass of a frozen encoder over a data set, shard by shard.

A shard appears whole or not at all, so an extraction that was killed goes on with the first missing one and ends in the
same bytes (with the same batch size and number of threads: the last bits of a matrix product may depend on these).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from otoscope import metrics
from otoscope.bank.encode import count_steps, encode_shard
from otoscope.bank.identity import BankError, BankIdentity, Holds, Layers, Manifest, bank_exists, check_identity
from otoscope.bank.read import Bank, IncompleteError
from otoscope.bank.requirements import sizes, table
from otoscope.bank.shard import DamagedError, check, save, size
from otoscope.datasets import Dataset
from otoscope.encoders import Encoder
from otoscope.files import replacing
from otoscope.types import Clip, TokenShape

_SAMPLED = 8
"""Clips of each split that are decoded to learn how long clips are."""


def extract(
    encoder: Encoder,
    dataset: Dataset,
    path: str | Path,
    *,
    splits: Sequence[str] | None = None,
    layers: Layers = "last",
    holds: Holds = "tokens",
    dtype: str = "float16",
    batch_size: int = 16,
    shard_clips: int = 64,
    progress: bool = True,
) -> Bank:
    """Encode a data set once and keep its tokens in the folder `path`; the bank, opened.

    `layers`: "last", "all" or indices; `holds`: "tokens" for whole maps, "pooled" for their means (`requirements` says which
    of both a probe asks for); `dtype`: "float16", "bfloat16", "float32" or "int8"; `splits`: None for all. A whole bank
    of the same identity is opened as it is, an interrupted one goes on. The encoder runs where its weights are; clips
    at another rate are resampled. With `progress` the size is announced on stderr before anything is written, and what
    it would be otherwise (pooled or not, one layer or all, float16 or int8): exact where a split's clips have one
    length, else reckoned from the longest of a few.

    Raises `ValueError` or `UnknownNameError` if the metric of the task cannot be its main score, `MismatchError` if the
    folder holds a bank made from something else, `OSError` (ENOSPC) if the disk lacks the room, `AudioError` for a clip that cannot be heard, `BankError` for tokens that cannot be stored. The example is at
    `otoscope.bank`.
    """
    path = Path(path)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, found {batch_size}")
    metrics.main_metric(dataset.task)
    identity = BankIdentity.of(
        encoder, dataset, splits=splits, layers=layers, holds=holds, dtype=dtype, shard_clips=shard_clips
    )
    if bank_exists(path):
        check_identity(path, identity)
        try:
            return Bank(path)
        except (IncompleteError, DamagedError):
            pass
    clips = {split: _checked(dataset, split) for split in identity.splits}
    manifest = Manifest(identity, dataset.task, {split: len(held) for split, held in clips.items()})
    _announce(path, manifest, _measure(encoder, clips), encoder.shape, progress)
    with _alone(path):
        if bank_exists(path):
            check_identity(path, identity)
        else:
            manifest.write(path)
        _fill(path, manifest, clips, encoder, batch_size, progress)
    return Bank(path)


def _checked(dataset: Dataset, split: str) -> Sequence[Clip]:
    clips = dataset.clips(split)
    ids = [clip.id for clip in clips]
    if not ids:
        raise ValueError(f"data set {dataset.name!r} has no clips in split {split!r}; leave it out with splits=...")
    if len(set(ids)) != len(ids):
        twice = next(id for id in ids if ids.count(id) > 1)
        raise ValueError(f"data set {dataset.name!r}, split {split!r}: clip id {twice!r} occurs twice")
    dataset.task.targets(clips)
    return clips


# Before anything is written: how large it will be, and whether the disk has the room


def _measure(encoder: Encoder, clips: dict[str, Sequence[Clip]]) -> dict[str, int]:
    """Time steps of each split's token maps, from the longest of a few clips spread over it."""
    spread = {split: range(0, len(held), -(-len(held) // _SAMPLED)) for split, held in clips.items()}
    return {split: count_steps(encoder, [held[i] for i in spread[split]]) for split, held in clips.items()}


def _sizes(manifest: Manifest, steps: dict[str, int], identity: BankIdentity) -> dict[str, int]:
    """Bytes of every shard, were this the bank's identity."""
    return {
        name: size(len(rows), steps[split], identity)
        for split in manifest.identity.splits
        for name, rows in manifest.shards(split).items()
    }


def _announce(path: Path, manifest: Manifest, steps: dict[str, int], whole: TokenShape, progress: bool) -> None:
    identity, shape = manifest.identity, manifest.identity.shape
    shards = _sizes(manifest, steps, identity)
    pooled = ", pooled," if identity.holds == "pooled" else ","
    missing = sum(size for name, size in shards.items() if not (path / name).exists())
    if progress:
        kinds = sizes(identity, whole, lambda other: sum(_sizes(manifest, steps, other).values()))
        print(
            f"bank {path}: {sum(manifest.clips.values())} clips of {max(steps.values())} x {shape.freq} tokens{pooled} "
            f"width {shape.dim}, {shape.layers} of {whole.layers} layers in {identity.dtype}: "
            f"{_human(sum(shards.values()))}, {_human(missing)} still to write "
            f"(all layers: {_human(kinds[identity.holds, whole.layers, identity.dtype])}); {_human(_free(path))} free",
            textwrap.indent(table(kinds, (identity.holds, shape.layers, identity.dtype), _human), "  "),
            sep="\n",
            file=sys.stderr,
        )
    _require(path, missing)


def _require(path: Path, need: int) -> None:
    free = _free(path)
    if need > free:
        raise OSError(
            errno.ENOSPC,
            f"the bank needs {_human(need)} more and the disk has {_human(free)} free; make room, choose another disk, "
            "or keep fewer layers or splits",
            str(path),
        )


def _free(path: Path) -> int:
    there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free


def _human(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


# Writing


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the folder against other extractions (they wait), and clear what a killed one left half-written.

    The lock goes with the process that holds it. Windows has none: start one extraction into a folder at a time.
    """
    path.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    import fcntl

    folder = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        for pattern in (".manifest.json.*", "*/.clips.json.*", "*/.shard-*", "*/.tmp*"):  # the last: safetensors' own
            for left in path.glob(pattern):
                left.unlink()
        yield
    finally:
        os.close(folder)


def _fill(
    path: Path,
    manifest: Manifest,
    clips: dict[str, Sequence[Clip]],
    encoder: Encoder,
    batch_size: int,
    progress: bool,
) -> None:
    from tqdm import tqdm

    for split, held in clips.items():
        _write_clips(path / split / "clips.json", held)
    shards = [(split, name, rows) for split in clips for name, rows in manifest.shards(split).items()]
    missing = [shard for shard in shards if not _is_whole(path / shard[1], len(shard[2]), manifest.identity)]
    total, ahead = sum(manifest.clips.values()), sum(len(rows) for _, _, rows in missing)
    with tqdm(
        total=total, initial=total - ahead, desc="encoding", unit="clip", smoothing=0, disable=not progress
    ) as bar:
        for split, name, rows in missing:
            members = [clips[split][i] for i in rows]
            tensors = encode_shard(encoder, members, manifest.identity, batch_size, bar.update)
            _require(path, sum(tensor.nbytes for tensor in tensors.values()))
            save(path / name, tensors)


def _is_whole(file: Path, clips: int, identity: BankIdentity) -> bool:
    try:
        return file.exists() and bool(check(file, clips, identity))
    except DamagedError:
        return False


def _write_clips(file: Path, clips: Sequence[Clip]) -> None:
    held = {
        "ids": [clip.id for clip in clips],
        "labels": [clip.labels for clip in clips],
        "events": [[(event.onset, event.offset, event.label) for event in clip.events] for clip in clips],
    }
    text = json.dumps(held) + "\n"
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise BankError(
            f"{file} names other clips than the data set does now, though its digest is the same: a data set's digest "
            "must cover ids, labels and events. Mend the digest, delete the folder and extract the bank anew"
        )
    if not file.exists():
        with replacing(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
