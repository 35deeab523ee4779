"""Write a bank: encode a data set with a frozen encoder, without augmentation, and store the tokens in shards.

A shard is written completely or not at all. If an extraction was killed, the next one therefore continues with
the first missing shard. The shards then contain the same bytes as without interruption, if the size of batches and the
number of threads are the same; the rounding of a matrix product can depend on both.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from otoscope.bank._clips import clips_to_encode
from otoscope.bank._compile import ANNOUNCEMENT
from otoscope.bank._encode import check_repeatable
from otoscope.bank._folder import check_free_space, format_bytes, free_bytes, locked, write_clips
from otoscope.bank._mirror import missing_shards
from otoscope.bank._pipeline import Loading, Shard, write_shards
from otoscope.bank._requirements import size_table, sizes_by_kind
from otoscope.bank.errors import DamagedError, IncompleteError
from otoscope.bank.extraction import append_extraction
from otoscope.bank.identity import BankIdentity, Content, Layers, whole_dataset
from otoscope.bank.manifest import Manifest, bank_exists, check_identity
from otoscope.bank.read import Bank
from otoscope.bank.size import BankSize
from otoscope.datasets import Dataset, OneFold
from otoscope.datasets.audio_report import reporting_audio
from otoscope.encoders import Encoder
from otoscope.remote import Mirror, local_folder, shown
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
    """Encode a data set once and store its tokens in a folder, or at a URL.

    A complete bank with the same identity is opened unchanged; an interrupted one is continued. The documentation of
    the package `otoscope.bank` contains an example. The bank of a data set with folds contains the clips of all folds,
    each once; `Bank.fold` chooses the splits of one. It is chosen already where the data set is a single fold.

    Parameters
    ----------
    encoder : Encoder. The frozen encoder; it runs on the device of its weights.
    dataset : Dataset. The data set; clips at another sampling rate are resampled.
    path : str or Path. The folder, or a URL such as `s3://bucket/bank`, to which each file is uploaded when it is
        written (`otoscope.remote`).
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
        None chooses: up to 16 beside a GPU and a quarter of the cores beside an encoder on the CPU, and none for fewer
        than 32 or 256 clips. They are available on Linux.
    compile : bool. Whether to compile the encoder with torch.compile, which takes minutes and makes the encoder faster
        on a GPU. Of a model of transformers or timm, the blocks are compiled. Tokens differ by rounding.
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
    OSError : (ENOSPC) when the disk has too little free space; a RemoteError when the URL cannot be read or written.
    AudioError : when the audio of a clip cannot be used.
    BankError : when tokens cannot be stored in this dtype, or when the encoder gives other tokens for the first clips
        when it encodes them again.
    """
    loading = Loading(batch_size, batch_seconds, loader_workers, compile)
    clips, whole = clips_to_encode(dataset, splits, allow_shared=allow_shared), whole_dataset(dataset)
    identity = BankIdentity.of(
        encoder, whole, splits=splits, layers=layers, content=content, dtype=dtype, shard_clips=shard_clips
    )
    bank = _extracted(encoder, whole, local_folder(path), identity, clips, loading, progress)
    return bank.fold(dataset.chosen_fold) if isinstance(dataset, OneFold) else bank


def _extracted(
    encoder: Encoder,
    dataset: Dataset,
    path: Path,
    identity: BankIdentity,
    clips: dict[str, Sequence[Clip]],
    loading: Loading,
    progress: bool,
) -> Bank:
    """The bank with the clips of a data set, which is opened if it is complete, and written if not."""
    if bank_exists(path):
        check_identity(path, identity, dataset)
        try:
            return Bank(path)
        except (IncompleteError, DamagedError):
            pass
    manifest = Manifest.of(identity, encoder, dataset, clips)
    size = BankSize.estimate(encoder, clips, identity)
    if progress:
        _announce(path, size, encoder)
    check_repeatable(encoder, clips[identity.splits[0]])
    check_free_space(path, max(size.shards.values()) if Mirror.of(path) else size.missing_bytes(path))
    with locked(path, identity.splits, partial(_say_that_it_waits, path) if progress else lambda: None):
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
            f"{count} tokens of the bank at {bank.place} are not zero and were rounded to zeros in {identity.dtype}; "
            "extract with dtype='bfloat16' or 'float32' if they matter"
        )
    return bank


def _say_that_it_waits(path: Path) -> None:
    print(f"waiting for other processes, which write the bank at {shown(path)}", file=sys.stderr, flush=True)


# Size and free space


def _announce(path: Path, size: BankSize, encoder: Encoder) -> None:
    """Print the size of the bank, and the sizes for other choices of layers, content and dtype, to stderr."""
    identity, shape = size.identity, size.identity.shape
    sizes = sizes_by_kind(size, encoder.shape)
    pooled = ", pooled," if identity.content == "pooled" else ","
    print(
        f"bank {shown(path)}: {sum(size.clips.values())} clips of {size.longest} x {shape.freq} tokens{pooled} "
        f"width {shape.dim}, {shape.layers} of {encoder.shape.layers} layers in {identity.dtype}: "
        f"{format_bytes(size.bytes)}, {format_bytes(size.missing_bytes(path))} still to write "
        f"(all layers: {format_bytes(sizes[identity.content, encoder.shape.layers, identity.dtype])}); "
        f"{format_bytes(free_bytes(path))} free",
        textwrap.indent(size_table(sizes, (identity.content, shape.layers, identity.dtype), format_bytes), "  "),
        sep="\n",
        file=sys.stderr,
    )


# Writing


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
        write_clips(path / split / "clips.json", members, identity)
    rows_of = {name: (split, rows) for split in clips for name, rows in manifest.shards(split).items()}
    missing = [
        Shard(name, [clips[rows_of[name][0]][row] for row in rows_of[name][1]])
        for name in missing_shards(path, {name: len(rows) for name, (_, rows) in rows_of.items()}, identity)
    ]
    total, remaining = sum(manifest.clips.values()), sum(len(shard.clips) for shard in missing)
    if not missing:
        return
    if progress and loading.compiled:
        print(ANNOUNCEMENT, file=sys.stderr)
    with tqdm(
        total=total, initial=total - remaining, desc="encoding", unit="clip", smoothing=0, disable=not progress
    ) as bar:
        check_space = partial(check_free_space, path)
        extraction = write_shards(
            path, missing, encoder, identity, loading, check_space=check_space, on_batch=bar.update
        )
    append_extraction(path, extraction)
    if progress:
        print(extraction, file=sys.stderr)
