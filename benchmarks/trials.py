"""Sixteen configurations in one pass against one after another, on a bank of noise.

python benchmarks/trials.py            # 512 clips of 256 tokens, D = 192
python benchmarks/trials.py --small    # a toy, to see that it runs
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence

import otoscope.bank
from measure import HEADER, compare, machine
from otoscope.bank import Bank
from otoscope.train import Configuration, fit, fit_many
from synthetic import Cut, Noise


def configurations(count: int, seeds: int) -> list[Configuration]:
    """`count` learning rates over `seeds` seeds."""
    return [Configuration(seed=i % seeds, lr=1e-3 * 1.2**i) for i in range(count)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="toy sizes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=16)
    asked = parser.parse_args(arguments)
    clips, steps, dim, classes, epochs = (12, 2, 12, 3, 1) if asked.small else (512, 32, 192, 20, 3)
    data = Noise(clips=clips, samples=steps * 8 * dim, rate=Cut.sample_rate, classes=classes)
    print(f"{machine()}\n\n{HEADER}")
    with tempfile.TemporaryDirectory() as folder:
        bank = otoscope.bank.extract(Cut(freq=8, dim=dim), data, f"{folder}/bank", progress=False)
        for probe in ("mean", "mhca", "protobin"):
            for seeds in (1, asked.trials):
                chosen = configurations(asked.trials, seeds)
                ratio = compare(
                    lambda: fit_many(probe, bank, chosen, epochs=epochs),  # noqa: B023
                    lambda: one_by_one(probe, bank, chosen, epochs),  # noqa: B023
                    rounds=asked.rounds,
                )
                print(ratio.row(f"{probe}: {asked.trials} trials of {seeds} seed{'s' * (seeds > 1)}"))


def one_by_one(probe: str, bank: Bank, chosen: Sequence[Configuration], epochs: int) -> None:
    """Each configuration by itself."""
    for c in chosen:
        fit(probe, bank, seed=c.seed, lr=c.lr, epochs=epochs)


if __name__ == "__main__":
    main()
