"""Reading random batches of a bank against np.memmap of the same numbers, and against the encoder doing its work again.

python benchmarks/reading.py            # 64 clips of 10 s through `tiny`
python benchmarks/reading.py --small    # a toy, to see that it runs
"""

from __future__ import annotations

import tempfile

import numpy as np
import torch

import otoscope.bank
from measure import compare
from otoscope import encoders
from otoscope.types import AudioBatch
from render import command
from rows import Section, Target
from synthetic import Noise

COMPARED = """\
Reading every clip of a bank once, in random batches, as float32 tensors: against a plain `np.memmap` of the same
float16 numbers, indexed by row and converted, which is the least that reading can do; and against the encoder `tiny`
computing the same tokens from waveforms that are in memory already. Both readers find the files in the page cache."""
BOUNDS = """\
Both readers copy and widen the same bytes, so speed of memory bounds them alike. The bank looks up shards, checks rows,
fills the mask and the cls tokens besides; that is a fixed price for a clip and weighs less the larger its map. Against
the encoder the ratio has no bound: it is the arithmetic of the encoder over the bytes of its output, and grows with
every layer."""


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
    return [Section("4. Reading a bank", COMPARED, [[against, encoded]], BOUNDS, [target])]


if __name__ == "__main__":
    command(sections, __doc__, None)
