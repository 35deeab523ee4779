"""The effect of int8 tokens on mAP: every clip probe on the `scenes` of one encoder, stored in float16 and in int8.

python benchmarks/dtypes.py --out FOLDER           # 15 minutes on one core; continues where it was stopped
python benchmarks/dtypes.py --out FOLDER --small   # tiny sizes, to check that it runs

Each probe is measured three times: trained and evaluated on float16, trained and evaluated on int8, and trained on
float16 but evaluated on int8. The last shows the effect of rounding alone. The second also includes the effect on
training; for a probe that chooses among nearly equal tokens this can be as large as that of another seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import otoscope as oto
from measure import machine
from otoscope import probes
from otoscope.bank import Bank
from otoscope.metrics.stats import Difference, Estimate, bootstrap, paired_bootstrap
from otoscope.probes import FrameProbe
from otoscope.results import Store
from otoscope.train import TrainingConfig, fit
from render import table

SIZES = {"train": 400, "validation": 100, "test": 300}
SMALL = {"train": 6, "validation": 4, "test": 4}
EPOCHS = {"summary": 30, "mean": 30, "tokens": 15}
"""Epochs by what a probe reads. Learning rate and weight decay are the middle of the probe's ranges; the seed is 0."""
OVERRIDES: dict[str, dict[str, Any]] = {
    "cgp": {"epochs": 10, "lr": 2e-3, "options": {"prototypes": 500, "selection": "int8"}},
    "selfattn": {"epochs": 4},
}
BATCH = 32
TRAINED = {"float16": ("float16", "float16"), "int8": ("int8", "int8"), "rounded": ("float16", "int8")}
"""For each measurement, the bank of the training and the bank of the evaluation."""


@dataclass(frozen=True)
class Row:
    """One probe in three measurements, in %."""

    probe: Annotated[str, "probe"]
    float16: Annotated[str, "mAP, float16"]
    int8: Annotated[str, "mAP, int8"]
    anew: Annotated[str, "trained on int8: change (95 %)"]
    rounded: Annotated[str, "float16 probe on int8: change (95 %)"]
    epochs: Annotated[int, "epochs"]


def settings(name: str) -> dict[str, Any]:
    """Return the training settings of a probe."""
    kind = probes.registry.get(name)
    return {"epochs": EPOCHS[kind.reads]} | OVERRIDES.get(name, {})


def measure(name: str, banks: dict[str, Bank], store: Store) -> None:
    """Train a probe on both banks and store its three measurements, unless the store has them."""
    done = {record.probe for record in store}
    labels = {what: f"{name}, {what}" for what in TRAINED}
    if done >= set(labels.values()):
        return
    training = settings(name)
    options = training.pop("options", None)
    config = TrainingConfig(batch_size=BATCH, **training)
    fitted = {dtype: fit(name, bank, config, options=options, progress=True) for dtype, bank in banks.items()}
    for what, (trained, measured) in TRAINED.items():
        oto.evaluate(fitted[trained], banks[measured], store=store, probe=labels[what])


def row(name: str, store: Store) -> Row:
    """Make the row of a probe; differences are paired by clips."""
    records = {record.probe: record for record in store}
    estimates = {what: _estimate(store, records[f"{name}, {what}"]) for what in TRAINED}
    return Row(
        f"`{name}`",
        f"{100 * estimates['float16'].value:.1f}",
        f"{100 * estimates['int8'].value:.1f}",
        _text(paired_bootstrap(estimates["int8"], estimates["float16"])),
        _text(paired_bootstrap(estimates["rounded"], estimates["float16"])),
        settings(name)["epochs"] if probes.solver_of(name, {}) == "adamw" else 0,
    )


def _estimate(store: Store, record: oto.Record) -> Estimate:
    predictions = store.predictions(record)
    assert predictions is not None
    return bootstrap([predictions.scores], predictions.targets, "mAP", resamples=2000)


def _text(change: Difference) -> str:
    return f"{100 * change.value:+.2f} ({100 * change.low:+.2f} .. {100 * change.high:+.2f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill both banks, measure every probe that is missing in the store, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of banks and results")
    parser.add_argument("--probes", help="names separated by commas (default: every clip probe)")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to check that it runs")
    options = parser.parse_args(arguments)
    kinds = {name: probes.registry.get(name) for name in probes.names()}
    chosen = (
        options.probes.split(",") if options.probes else [n for n, k in kinds.items() if not issubclass(k, FrameProbe)]
    )
    data = oto.datasets.create("scenes", **(SMALL if options.small else SIZES))
    encoder, store = oto.encoders.create("tiny"), Store(options.out / "results")
    banks = {
        dtype: oto.bank.extract(encoder, data, options.out / dtype, layers="all", dtype=dtype)
        for dtype in ("float16", "int8")
    }
    for name in chosen:
        measure(name, banks, store)
    print(machine(), table([row(name, store) for name in chosen]), sep="\n\n")


if __name__ == "__main__":
    main()
