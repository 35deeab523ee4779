"""What int8 tokens cost in mAP: every clip probe on the `scenes` of one encoder, kept in float16 and in int8.

python benchmarks/dtypes.py --out FOLDER           # 15 minutes on one core; goes on where it was stopped
python benchmarks/dtypes.py --out FOLDER --small   # a toy, to see that it runs

Three measurements of each probe: trained and measured on float16, trained and measured on int8, and the probe trained
on float16 measured on int8. The last tells rounding alone; the second also holds what training makes of it, which for a
probe that follows near ties is as good as another seed.
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
from otoscope.train import fit
from render import table

SIZES = {"train": 400, "validation": 100, "test": 300}
SMALL = {"train": 6, "validation": 4, "test": 4}
EPOCHS = {"summary": 30, "mean": 30, "tokens": 15}
"""By what a probe reads. Learning rate and weight decay are the middle of its ranges, the seed is 0."""
OWN: dict[str, dict[str, Any]] = {
    "cgp": {"epochs": 10, "lr": 2e-3, "options": {"prototypes": 500, "selection": "int8"}},
    "selfattn": {"epochs": 4},
}
BATCH = 32
TRAINED = {"float16": ("float16", "float16"), "int8": ("int8", "int8"), "rounded": ("float16", "int8")}
"""A measurement: which bank the probe was trained on, and which it was measured on."""


@dataclass(frozen=True)
class Row:
    """One probe in three measurements, in %."""

    probe: Annotated[str, "probe"]
    float16: Annotated[str, "mAP, float16"]
    int8: Annotated[str, "mAP, int8"]
    anew: Annotated[str, "trained on int8: change (95 %)"]
    rounded: Annotated[str, "trained on float16, measured on int8: change (95 %)"]
    epochs: Annotated[int, "epochs"]


def settings(name: str) -> dict[str, Any]:
    """How a probe is trained here."""
    kind = probes.registry.get(name)
    return {"epochs": EPOCHS[kind.reads]} | OWN.get(name, {})


def measure(name: str, banks: dict[str, Bank], store: Store) -> None:
    """Train a probe on both banks and keep its three measurements, unless they are there."""
    held = {record.probe for record in store}
    labels = {what: f"{name}, {what}" for what in TRAINED}
    if held >= set(labels.values()):
        return
    how = {"seed": 0, "batch_size": BATCH, "progress": True} | settings(name)
    fitted = {dtype: fit(name, bank, **how) for dtype, bank in banks.items()}
    for what, (trained, measured) in TRAINED.items():
        oto.evaluate(fitted[trained], banks[measured], store=store, probe=labels[what])


def row(name: str, store: Store) -> Row:
    """The three measurements of a probe, paired clip by clip."""
    records = {record.probe: record for record in store}
    found = {what: _estimate(store, records[f"{name}, {what}"]) for what in TRAINED}
    return Row(
        f"`{name}`",
        f"{100 * found['float16'].value:.1f}",
        f"{100 * found['int8'].value:.1f}",
        _spoken(paired_bootstrap(found["int8"], found["float16"])),
        _spoken(paired_bootstrap(found["rounded"], found["float16"])),
        settings(name)["epochs"] if probes.registry.get(name).trained else 0,
    )


def _estimate(store: Store, record: oto.Record) -> Estimate:
    held = store.predictions(record)
    assert held is not None
    return bootstrap([held.scores], held.targets, "mAP", resamples=2000)


def _spoken(change: Difference) -> str:
    return f"{100 * change.value:+.2f} ({100 * change.low:+.2f} .. {100 * change.high:+.2f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill both banks, measure every probe that has not been, print the table of all that have."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of banks and results")
    parser.add_argument("--probes", help="only these, by commas (default: every clip probe)")
    parser.add_argument("--small", action="store_true", help="toy sizes, to see that it runs")
    asked = parser.parse_args(arguments)
    kinds = {name: probes.registry.get(name) for name in probes.names()}
    chosen = asked.probes.split(",") if asked.probes else [n for n, k in kinds.items() if not issubclass(k, FrameProbe)]
    data = oto.datasets.create("scenes", **(SMALL if asked.small else SIZES))
    encoder, store = oto.encoders.create("tiny"), Store(asked.out / "results")
    banks = {
        dtype: oto.bank.extract(encoder, data, asked.out / dtype, layers="all", dtype=dtype)
        for dtype in ("float16", "int8")
    }
    for name in chosen:
        measure(name, banks, store)
    print(machine(), table([row(name, store) for name in chosen]), sep="\n\n")


if __name__ == "__main__":
    main()
