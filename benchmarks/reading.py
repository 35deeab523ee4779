"""Reading a bank in random batches, compared with np.memmap of the same numbers and with encoding again.

Also epochs over a bank on disk on the CPU, which reads and computes in turn, beside a thread that reads ahead.

python benchmarks/reading.py            # 64 clips of 10 s through `tiny`; epochs over 256 clips of 64 x 8 tokens
python benchmarks/reading.py --small    # tiny sizes, to check that it runs
"""

from __future__ import annotations

import os
import tempfile
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
Every clip of a bank is read once, in random batches, as float32 tensors. The comparisons are a plain `np.memmap` of
the same float16 numbers, indexed by row and converted, which is the least that a reader must do; and the encoder
`tiny`, which computes the same tokens from waveforms in memory. For both readers the files are in the page cache.

The second table measures one epoch of training over a bank that the loop does not load into memory (its limit is set
to zero), on the CPU. The library reads and computes in turn, and lets the operating system read the next rows from
the disk; the other way is a thread that reads the next batch during the computation, as the library does for a GPU.
In the rows `page cache` a batch costs a copy, the conversion to float32 and, for prototypes, the normalisation. In
the rows `disk` the files are dropped from the page cache before each epoch (`posix_fadvise`), so that a batch also
costs the access to the disk, if the folder for temporary files is on one."""
BOUNDS = """\
Both readers copy and convert the same bytes, so that the speed of memory limits both. The bank also looks up shards,
checks rows, and fills the mask and the cls tokens. This costs the same for every clip and matters less for larger
maps. The ratio to the encoder has no limit: it is the arithmetic of the encoder divided by the bytes of its output,
and grows with every layer.

Reading from the page cache is work for a core. On the CPU, a thread that does it takes this core from the computation,
so that nothing is gained. Beside a GPU the cores are idle, and the thread hides the reading completely.
An epoch here reads every shard for the first time, which also verifies its digest."""
PROBES = ("linpre", "protobin")


def sections(small: bool) -> list[Section]:
    """Measure one row per other source of the same tokens."""
    clips, seconds, batch = (4, 0.5, 2) if small else (64, 10, 16)
    encoder = encoders.create("tiny", weights="random")
    data = Noise(clips=clips, samples=int(seconds * encoder.sample_rate), rate=encoder.sample_rate, classes=2)
    with tempfile.TemporaryDirectory() as folder:
        bank = otoscope.bank.extract(encoder, data, f"{folder}/bank", progress=False)
        split = bank.split("train")
        values = split.tokens(slice(None)).x.to(torch.float16).numpy()
        values.tofile(f"{folder}/plain.bin")
        plain = np.memmap(f"{folder}/plain.bin", np.float16, "r", shape=values.shape)
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
    """Measure one row per probe and place of the files."""
    data = Noise(clips=clips, samples=64 * 8 * 192, rate=Cut.sample_rate, classes=36)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bank")
        otoscope.bank.extract(Cut(freq=8, dim=192), data, path, splits=("train",), progress=False)
        for name in PROBES:
            for dropped in (False, True) if hasattr(os, "posix_fadvise") else (False,):
                what = f"an epoch of `{name}`, {clips} clips; {'disk' if dropped else 'page cache'}"
                ours, thread = (lambda d=d: _epoch(path, name, batch, dropped, d) for d in ("cpu", "cuda"))  # noqa: B023
                rows.append(compare(what, ours, thread))
    return rows


def _epoch(path: Path, name: str, batch: int, dropped: bool, device: str) -> None:
    """One epoch on the CPU, for which batches are read as for this device."""
    if dropped:
        _drop_cache(path)
    split = otoscope.bank.open(path).split("train")  # opened again, since mapped pages cannot be dropped
    torch.manual_seed(0)
    module = probes.create(name, split.shape, len(split.task.classes))
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-3)
    with patch.object(loader, "IN_MEMORY", 0):
        serve = loader.split_loader(split, module.reads, (0,), normalise=module.normalises_tokens)
    batches = torch.split(loader.clip_order(serve, len(split), torch.Generator().manual_seed(0)), batch)
    with loader.prefetch(serve, batches, torch.device(device)) as served:
        for index, tokens in zip(batches, served, strict=True):
            optimiser.zero_grad()
            asymmetric(module(tokens), split.targets[index]).backward()
            optimiser.step()


def _drop_cache(path: Path) -> None:
    """Drop the files of a bank from the page cache."""
    for shard in path.glob("*/*.safetensors"):
        with shard.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    command(sections, __doc__, None)
