"""The fine-tuning reference that ships: a store of records made elsewhere, for it is the demo's longest part.

`python -m otoscope.bench.recorded demo/results --command "otoscope demo --finetune"` replaces what ships by the
fine-tuning records of a demo.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path

from otoscope.bench.specs import FINETUNE
from otoscope.results import Record, Store

SHIPPED = Path(__file__).parent / "recorded"


def matches(record: Record, digests: Mapping[str, str]) -> bool:
    """Whether a record is of this very encoder and data set, by `encoder_digest` and `dataset_digest`."""
    return all(record.config.get(name) == digest for name, digest in digests.items())


def add_to(store: Store, encoder: str, digests: Mapping[str, str], *, shipped: Path | None = None) -> int:
    """Copy the shipped records of this encoder and data set into a store, marked as recorded; how many there are."""
    source = Store(shipped or SHIPPED)
    fitting = [r for r in source if r.encoder == encoder and matches(r, digests)]
    for record in fitting:
        if record.key not in store:
            store.add(record, source.predictions(record))
    return len(fitting)


def forget(store: Store) -> None:
    """Take recorded fine-tuning out of a store, so that it can be measured anew."""
    for record in store:
        if record.probe == FINETUNE and record.recorded:
            (store.path / "records" / f"{record.key}.json").unlink()
            (store.path / "predictions" / f"{record.key}.npz").unlink(missing_ok=True)


def ship(store: Store, command: str, *, shipped: Path | None = None) -> int:
    """Replace what ships by the fine-tuning records of `store`, marked as made by `command`; how many there are."""
    found = [record for record in store if record.probe == FINETUNE and not record.recorded]
    if not found:
        raise ValueError(f"no fine-tuning measured in {store.path}; run `otoscope demo --finetune` first")
    shipped = shipped or SHIPPED
    if shipped.exists():
        shutil.rmtree(shipped)
    for record in found:
        marked = dataclasses.replace(record, recorded=f"recorded with `{command}`")
        Store(shipped).add(marked, store.predictions(record))
    return len(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path, help="the results folder of a demo that was run with --finetune")
    parser.add_argument("--command", default="otoscope demo --finetune", help="the command it was made with")
    asked = parser.parse_args()
    print(f"{ship(Store(asked.store), asked.command)} records in {SHIPPED}")
