"""Reading random batches of a bank against np.memmap of the same numbers, and against the encoder doing its work again;
epochs over a bank that is not held in memory, read ahead by a thread and not.

python benchmarks/reading.py            # 64 clips of 10 s through `tiny`; epochs over 256 clips of 64 x 8 tokens
python benchmarks/reading.py --small    # a toy, to see that it runs
"""

from __future__ import annotations

import os
import tempfile
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

import otoscope.bank
from measure import compare
from otoscope import encoders, probes
from otoscope.train import loader
from otoscope.train.losses import asymmetric
from otoscope.types import AudioBatch
from render import command
from rows import Faster, Section, Target
from synthetic import Cut, Noise

COMPARED = """\
Reading every clip of a bank once, in random batches, as float32 tensors: against a plain `np.memmap` of the same
float16 numbers, indexed by row and converted, which is the least that reading can do; and against the encoder `tiny`
computing the same tokens from waveforms that are in memory already. Both readers find the files in the page cache.

Below, one epoch of training over a bank that the loop does not hold in memory (its limit is set to nothing): a thread
reads the next batch while one is computed on, against reading and computing in turn. Once with the files in the page
cache, where a batch costs a copy, widening and, for prototypes, normalising; once with the files forgotten before each
epoch (`posix_fadvise`), so that it costs the disk besides, if the folder for temporary files is on one."""
BOUNDS = """\
Both readers copy and widen the same bytes, so speed of memory bounds them alike. The bank looks up shards, checks rows,
fills the mask and the cls tokens besides; that is a fixed price for a clip and weighs less the larger its map. Against
the encoder the ratio has no bound: it is the arithmetic of the encoder over the bytes of its output, and grows with
every layer.

Reading ahead hides the shorter of reading and computing behind the longer, at best a factor of two. From the page cache
reading is itself work for a processor, so it gains what cores stand idle and no more: nothing where computing uses all
of them, or where something else does. Waiting for a disk takes no processor and is hidden whole."""
PROBES = ("linpre", "protobin")


def sections(small: bool) -> list[Section]:
    """One row for each other way to the same tokens."""
    clips, seconds, batch = (4, 0.5, 2) if small else (64, 10, 16)
    encoder = encoders.create("tiny", weights="random")
    data = Noise(clips=clips, samples=int(seconds * encoder.sample_rate), rate=encoder.sample_rate, classes=2)
    with tempfile.TemporaryDirectory() as folder:
        bank = otoscope.bank.extract(encoder, data, f"{folder}/bank", progress=False)
        split = bank.split("train")
        held = split.tokens(slice(None)).x.to(torch.float16).numpy()
        held.tofile(f"{folder}/plain.bin")
        plain = np.memmap(f"{folder}/plain.bin", np.float16, "r", shape=held.shape)
        rows = [part.tolist() for part in torch.split(torch.randperm(clips), batch)]
        waves = [[data.clips("train")[i].audio for i in part] for part in rows]
        read = lambda: [split.tokens(part) for part in rows]  # noqa: E731
        mapped = lambda: [torch.from_numpy(plain[part]).float() for part in rows]  # noqa: E731
        again = lambda: [encoder.encode(AudioBatch.of(part, encoder.sample_rate)) for part in waves]  # noqa: E731
        against = compare(f"`np.memmap`, {clips} clips in batches of {batch}", read, mapped)
        encoded = compare(f"encoding again, {clips} clips in batches of {batch}", read, again)
    target = Target("speed of `np.memmap`", 0.8, against.faster.median)
    tables = [[against, encoded], _epochs(*(4, 2) if small else (256, 32))]
    return [Section("4. Reading a bank", COMPARED, tables, BOUNDS, [target])]


def _epochs(clips: int, batch: int) -> list[Faster]:
    """One row for each probe, and where the files are."""
    data = Noise(clips=clips, samples=64 * 8 * 192, rate=Cut.sample_rate, classes=36)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bank")
        otoscope.bank.extract(Cut(freq=8, dim=192), data, path, splits=("train",), progress=False)
        for name in PROBES:
            for forgotten in (False, True) if hasattr(os, "posix_fadvise") else (False,):
                what = f"an epoch of `{name}`, {clips} clips, read ahead; {'disk' if forgotten else 'page cache'}"
                ahead, prefetch = (lambda a=a: _epoch(path, name, batch, forgotten, a) for a in (True, False))  # noqa: B023
                rows.append(compare(what, ahead, prefetch))
    return rows


def _epoch(path: Path, name: str, batch: int, forgotten: bool, ahead: bool) -> None:
    if forgotten:
        _forget(path)
    split = otoscope.bank.open(path).split("train")  # anew, since pages that are mapped cannot be forgotten
    torch.manual_seed(0)
    module = probes.create(name, split.shape, len(split.task.classes))
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-3)
    with patch.object(loader, "IN_MEMORY", 0):
        serve = loader.split_loader(split, module.reads, (0,), normalise=module.normalises_tokens)
    batches = torch.split(loader.order(serve, len(split), torch.Generator().manual_seed(0)), batch)
    with loader.prefetch(serve, batches) if ahead else nullcontext(map(serve, batches)) as served:
        for index, tokens in zip(batches, served, strict=True):
            optimiser.zero_grad()
            asymmetric(module(tokens), split.targets[index]).backward()
            optimiser.step()


def _forget(path: Path) -> None:
    """Drop a bank's files from the page cache."""
    for shard in path.glob("*/*.safetensors"):
        with shard.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    command(sections, __doc__, None)
