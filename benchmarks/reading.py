"""Reading random batches of a bank against np.memmap of the same numbers, and against the encoder doing its work again.

python benchmarks/reading.py            # 128 clips of 10 s through `tiny`
python benchmarks/reading.py --small    # a toy, to see that it runs
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence

import numpy as np
import torch

import otoscope.bank
from measure import HEADER, compare, machine
from otoscope import encoders
from otoscope.types import AudioBatch
from synthetic import Noise


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="toy sizes")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args(arguments)
    clips, seconds, batch = (4, 0.5, 2) if asked.small else (128, 10, 16)
    encoder = encoders.create("tiny", weights="random")
    data = Noise(clips=clips, samples=int(seconds * encoder.sample_rate), rate=encoder.sample_rate, classes=2)
    print(f"{machine()}\n\n{HEADER}")
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
        print(compare(read, mapped, rounds=asked.rounds).row(f"np.memmap, {clips} clips in batches of {batch}"))
        print(compare(read, again, rounds=asked.rounds).row(f"encoding again, {clips} clips in batches of {batch}"))


if __name__ == "__main__":
    main()
