"""Sixteen configurations trained in one pass, compared with one after another, on a bank of noise.

python benchmarks/trials.py            # 256 clips of 128 tokens, D = 192
python benchmarks/trials.py --small    # tiny sizes, to check that it runs
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

import otoscope.bank
from measure import compare
from otoscope.bank import Bank
from otoscope.train import TrainingConfig, fit, fit_many
from render import command
from rows import Section, Target
from synthetic import Cut, Noise

WANTED = {"mean": 8.0, "mhca": 1.5, "protobin": 1.5}
EPOCHS = {"mean": 10, "mhca": 1, "protobin": 1}
OPTIONS = {"mean": {"solver": "adamw"}}
COMPARED = """\
Sixteen configurations of one probe (learning rates, or seeds and learning rates) are trained in one pass over a bank
(`fit_many`), and one after another (`fit`). Both train the same epochs by gradient and validate after each epoch; the
last layer is not solved at the end. The results are equal up to rounding. With one seed all trials use the same
batches; with sixteen seeds every trial has its own order of clips."""
BOUNDS = """\
A pooled probe computes very little per clip, so that one training run is mostly the overhead of many small
operations. Trials in one pass pay this overhead once. What remains is the arithmetic of all trials: the products of
the linear layers, the loss, its gradient, the update, and the ranking for the metric. For a probe of token maps the
arithmetic itself is the cost, and it grows with the number of trials. Only shared work can be saved: reading and
normalising the tokens, and products that are too narrow to run at full speed for one trial alone. With one seed all
trials share the tokens of a batch. With one seed per trial the batches differ, and only reading the bank, the
validation batches and the overhead are shared. In `fit` with `protobin`, 68 % of the CPU time (one thread) are the
products of prototypes and tokens, their maxima and their gradients, which each trial computes for its own clips.
Training in one pass can therefore be at most 1 / 0.68 = 1.5 times as fast, and the update of the weights is not
shared either."""


def configurations(count: int, seeds: int, epochs: int) -> list[TrainingConfig]:
    """Make `count` configurations with different learning rates over `seeds` seeds."""
    return [TrainingConfig(seed=i % seeds, lr=1e-3 * 1.2**i, epochs=epochs, resolve_head=False) for i in range(count)]


def sections(small: bool) -> list[Section]:
    """Measure one row per probe and number of seeds."""
    trials, clips, steps, dim, classes = (2, 12, 2, 12, 3) if small else (16, 256, 16, 192, 20)
    data = Noise(clips=clips, samples=steps * 8 * dim, rate=Cut.sample_rate, classes=classes)
    rows, targets = [], []
    with tempfile.TemporaryDirectory() as folder:
        bank = otoscope.bank.extract(Cut(freq=8, dim=dim), data, f"{folder}/bank", progress=False)
        for probe, wanted in WANTED.items():
            epochs = 1 if small else EPOCHS[probe]
            for seeds in (1, trials):
                chosen = configurations(trials, seeds, epochs)
                what = f"`{probe}`: {trials} trials, epochs: {epochs}, seeds: {seeds}"
                rows.append(
                    compare(
                        what,
                        lambda: fit_many(probe, bank, chosen, options=OPTIONS.get(probe)),  # noqa: B023
                        lambda: one_by_one(probe, bank, chosen),  # noqa: B023
                    )
                )
                targets.append(Target(f"{what}, times faster", wanted, rows[-1].faster.median))
    return [Section("3. Many trials at once", COMPARED, [rows], BOUNDS, targets)]


def one_by_one(probe: str, bank: Bank, chosen: Sequence[TrainingConfig]) -> None:
    """Train one configuration after another."""
    for config in chosen:
        fit(probe, bank, config, options=OPTIONS.get(probe))


if __name__ == "__main__":
    command(sections, __doc__, None)
