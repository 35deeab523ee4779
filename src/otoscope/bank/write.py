"""Write a bank: encode a data set with a frozen encoder, without augmentation, and store the tokens in shards.

A shard is written completely or not at all. If an extraction was killed, the next one therefore continues with
the first missing shard. The shards then contain the same bytes as without interruption, if the size of batches and the
number of threads are the same; the rounding of a matrix product can depend on both.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from otoscope.bank._encode import check_repeatable
from otoscope.bank._pipeline import Loading, Shard, write_shards
from otoscope.bank._requirements import size_table, sizes_by_kind
from otoscope.bank._shard import check_shard
from otoscope.bank.errors import BankError, DamagedError, IncompleteError
from otoscope.bank.extraction import append_extraction
from otoscope.bank.identity import BankIdentity, Content, Layers
from otoscope.bank.manifest import Manifest, bank_exists, check_identity
from otoscope.bank.read import Bank
from otoscope.bank.size import BankSize
from otoscope.datasets import Dataset, Folds, OneFold
from otoscope.datasets.audio_report import reporting_audio
from otoscope.datasets.checks import checked_clips
from otoscope.datasets.doubts import warn_of_doubts
from otoscope.encoders import Encoder
from otoscope.files import replacing
from otoscope.results.sealed import sealed_text
from otoscope.types import Clip
from otoscope.warning import warn


def extract(
    encoder: Encoder,
    dataset: Dataset,
    path: str | Path,
    *,
    splits: Sequence[str] | None = None,
    layers: Layers = "last",
    content: Content = "tokens",
    dtype: str = "float16",
    batch_size: int = 16,
    batch_seconds: float = 320.0,
    shard_clips: int = 64,
    loader_workers: int | None = None,
    compile: bool = False,
    progress: bool = True,
    allow_shared: bool = False,
) -> Bank:
    """Encode a data set once and store its tokens in a folder.

    A complete bank with the same identity is opened unchanged; an interrupted one is continued. The documentation of
    the package `otoscope.bank` contains an example. The bank of a data set with folds contains the clips of all folds,
    each once; `Bank.fold` chooses the splits of one. It is chosen already where the data set is a single fold.

    Parameters
    ----------
    encoder : Encoder. The frozen encoder; it runs on the device of its weights.
    dataset : Dataset. The data set; clips at another sampling rate are resampled.
    path : str or Path. The folder.
    splits : sequence of str, or None for all. The splits to encode.
    layers : "last", "all" or indices. The layers to store.
    content : "tokens" for token maps, "pooled" for their means. `requirements` gives the layers and the content that a
        probe needs.
    dtype : "float16", "bfloat16", "float32" or "int8". Dtype of the stored tokens.
    batch_size : int. Maximum number of clips encoded at once. Clips of different lengths are encoded together if the
        encoder is `padding_neutral`, and if at most a fifth of the batch is padding.
    batch_seconds : float. Maximum duration of the clips encoded at once, padding included. A longer clip is encoded by
        itself.
    shard_clips : int. Number of clips in each file.
    loader_workers : int. Number of processes that decode and resample audio while the encoder computes; 0 for none.
        None chooses: none for fewer than 256 clips, else up to 16 beside a GPU and a quarter of the cores beside an
        encoder on the CPU. They are available on Linux.
    compile : bool. Whether to compile the encoder with torch.compile, which takes minutes and makes the encoder faster
        on a GPU. Tokens differ by rounding.
    progress : bool. Whether to show a progress bar on stderr. The estimated size (`BankSize.estimate`) is printed
        first, for this bank and for other choices of layers, content and dtype. At the end, the shares of decoding,
        front end, encoder and storing in the time are printed (`Bank.extractions`), and a report on silent, clipped and
        otherwise suspicious clips (`otoscope.audio.faults`).
    allow_shared : bool. Whether the held-out split may have ids and audio files of other splits.

    Returns
    -------
    Bank. The bank, opened.

    Raises
    ------
    UnknownNameError, ValueError : when the metric of the task is unknown or does not apply to it.
    MismatchError : when the folder contains a bank with another identity.
    DataError : when the data set cannot be measured (`otoscope.datasets.checks`).
    OSError : (ENOSPC) when the disk has too little free space.
    AudioError : when the audio of a clip cannot be used.
    BankError : when tokens cannot be stored in this dtype, or when the encoder gives other tokens for the first clips
        when it encodes them again.
    """
    if isinstance(dataset, OneFold):
        if splits is not None and tuple(splits) != dataset.whole.splits:
            raise ValueError(
                f"splits {list(splits)} of one fold were requested, but a bank contains the clips of all folds of "
                f"{dataset.name!r}; leave splits out"
            )
        warn_of_doubts(dataset, checked_clips(dataset, allow_shared=allow_shared))
        stored: dict[str, Any] = {"layers": layers, "content": content, "dtype": dtype, "shard_clips": shard_clips}
        stored |= {"batch_size": batch_size, "batch_seconds": batch_seconds, "loader_workers": loader_workers}
        bank = extract(encoder, dataset.whole, path, **stored, compile=compile, progress=progress)
        return bank.fold(dataset.chosen_fold)
    path = Path(path)
    loading = Loading(batch_size, batch_seconds, loader_workers, compile)
    known = dataset.splits if splits is None else [split for split in splits if split in dataset.splits]
    clips = checked_clips(dataset, known, allow_shared=allow_shared)
    warn_of_doubts(dataset, clips)
    identity = BankIdentity.of(
        encoder, dataset, splits=splits, layers=layers, content=content, dtype=dtype, shard_clips=shard_clips
    )
    if bank_exists(path):
        check_identity(path, identity, dataset)
        try:
            return Bank(path)
        except (IncompleteError, DamagedError):
            pass
    counts = {split: len(members) for split, members in clips.items()}
    folds = dataset.rows if isinstance(dataset, Folds) else {}
    about: dict[str, Any] = {"control": encoder.control, "folds": folds, "coverage": dataset.coverage}
    manifest = Manifest.of(identity, dataset.task, counts, **about)
    size = BankSize.estimate(encoder, clips, identity)
    if progress:
        _announce(path, size, encoder)
    check_repeatable(encoder, clips[identity.splits[0]])
    _check_free_space(path, size.missing_bytes(path))
    with _locked(path, identity.splits):
        if bank_exists(path):
            check_identity(path, identity, dataset)
        else:
            manifest.write(path)
        with reporting_audio() as report:
            _write_missing(path, manifest, clips, encoder, loading, progress)
    if progress and report.faulty:
        print(report, file=sys.stderr)
    bank = Bank(path)
    if count := sum(bank.underflowed.values()):
        warn(
            f"{count} tokens of the bank at {path} are not zero and were rounded to zeros in {dtype}; extract with "
            "dtype='bfloat16' or 'float32' if they matter"
        )
    return bank


# Size and free space


def _announce(path: Path, size: BankSize, encoder: Encoder) -> None:
    """Print the size of the bank, and the sizes for other choices of layers, content and dtype, to stderr."""
    identity, shape = size.identity, size.identity.shape
    sizes = sizes_by_kind(size, encoder.shape)
    pooled = ", pooled," if identity.content == "pooled" else ","
    print(
        f"bank {path}: {sum(size.clips.values())} clips of {size.longest} x {shape.freq} tokens{pooled} "
        f"width {shape.dim}, {shape.layers} of {encoder.shape.layers} layers in {identity.dtype}: "
        f"{_format_bytes(size.bytes)}, {_format_bytes(size.missing_bytes(path))} still to write "
        f"(all layers: {_format_bytes(sizes[identity.content, encoder.shape.layers, identity.dtype])}); "
        f"{_format_bytes(_free_bytes(path))} free",
        textwrap.indent(size_table(sizes, (identity.content, shape.layers, identity.dtype), _format_bytes), "  "),
        sep="\n",
        file=sys.stderr,
    )


def _check_free_space(path: Path, needed: int) -> None:
    """Raise `OSError` (ENOSPC) if the disk has less than `needed` bytes free."""
    free = _free_bytes(path)
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"the bank needs {_format_bytes(needed)} more, but the disk has {_format_bytes(free)} free; delete files, "
            "choose another disk, or store fewer layers or splits",
            str(path),
        )


def _free_bytes(path: Path) -> int:
    existing_folder = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing_folder).free


def _format_bytes(count: float) -> str:
    """Format a number of bytes with three digits and a decimal unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


# Writing


@contextmanager
def _locked(path: Path, splits: Sequence[str]) -> Iterator[None]:
    """Lock the folder, so that other extractions wait, and delete partial files of an extraction that was killed.

    The operating system releases the lock when the process ends. There is no lock on Windows: run one extraction into a
    folder at a time.
    """
    path.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    import fcntl

    folder = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        _delete_partial_files(path, splits)
        yield
    finally:
        os.close(folder)


def _delete_partial_files(path: Path, splits: Sequence[str]) -> None:
    """Delete the temporary files of a killed extraction. Raises `BankError` if a split is a link to another folder."""
    files = list(path.glob(".manifest.json.*"))
    for folder in (path / split for split in splits):
        if folder.is_symlink():
            raise BankError(
                f"{folder} is a link, and files behind links are never changed: replace it by a folder, or give "
                "another path"
            )
        # safetensors writes .tmp*
        files += [file for pattern in (".clips.json.*", ".shard-*", ".tmp*") for file in folder.glob(pattern)]
    for file in files:
        if not file.is_dir() or file.is_symlink():
            file.unlink()


def _write_missing(
    path: Path,
    manifest: Manifest,
    clips: dict[str, Sequence[Clip]],
    encoder: Encoder,
    loading: Loading,
    progress: bool,
) -> None:
    """Write `clips.json` of every split, and all shards that are missing or incomplete."""
    from tqdm import tqdm

    identity = manifest.identity
    for split, members in clips.items():
        _write_clips(path / split / "clips.json", members, identity)
    missing = [
        Shard(name, [clips[split][i] for i in rows])
        for split in clips
        for name, rows in manifest.shards(split).items()
        if not _is_complete(path / name, len(rows), identity)
    ]
    total, remaining = sum(manifest.clips.values()), sum(len(shard.clips) for shard in missing)
    if not missing:
        return
    with tqdm(
        total=total, initial=total - remaining, desc="encoding", unit="clip", smoothing=0, disable=not progress
    ) as bar:
        check_space = partial(_check_free_space, path)
        extraction = write_shards(
            path, missing, encoder, identity, loading, check_space=check_space, on_batch=bar.update
        )
    append_extraction(path, extraction)
    if progress:
        print(extraction, file=sys.stderr)


def _is_complete(file: Path, clips: int, identity: BankIdentity) -> bool:
    try:
        return file.exists() and bool(check_shard(file, clips, identity))
    except DamagedError:
        return False


def _write_clips(file: Path, clips: Sequence[Clip], identity: BankIdentity) -> None:
    """Write `clips.json`. Raises `BankError` if there is one with other contents."""
    table = {
        "ids": [clip.id for clip in clips],
        "labels": [clip.labels for clip in clips],
        "events": [[(event.onset, event.offset, event.label) for event in clip.events] for clip in clips],
        "groups": [clip.groups for clip in clips],
    }
    text = sealed_text(table, asdict(identity), file.parent.name)
    if not file.exists():
        with replacing(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    elif file.read_text(encoding="utf-8") != text:
        raise BankError(
            f"{file} and the data set list different clips, although the digest of the data set has not changed; a "
            "digest must cover ids, labels, events and groups. Correct the digest, delete the folder and extract the "
            "bank again"
        )
