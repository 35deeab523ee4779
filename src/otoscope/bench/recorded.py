"""The fine-tuning reference that ships: a store of records made elsewhere, for it is the demo's longest part.

`python -m otoscope.bench.recorded demo/results --command "otoscope demo --finetune"` replaces what ships by the
fine-tuning records of a demo.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from pathlib import Path

from otoscope.bank import BankIdentity
from otoscope.results import FINETUNE, Record, Store

SHIPPED = Path(__file__).parent / "recorded"


def matches(record: Record, identity: BankIdentity) -> bool:
    """Whether a record was measured with the encoder and the data set of a bank, by their digests."""
    digests = (record.protocol.encoder_digest, record.protocol.dataset_digest)
    return digests == (identity.encoder_digest, identity.dataset_digest)


def add_to(store: Store, encoder: str, identity: BankIdentity, *, shipped: Path | None = None) -> int:
    """Copy the shipped records of an encoder and a data set into a store.

    Parameters
    ----------
    store : where the records go; those that it has already are left as they are.
    encoder : label of the encoder in the records.
    identity : identity of a bank of the encoder and the data set.
    shipped : folder of the shipped records; None for those of this package.

    Returns
    -------
    int. Number of the shipped records of this encoder and data set.
    """
    source = Store(shipped or SHIPPED)
    fitting = [r for r in source if r.encoder == encoder and matches(r, identity)]
    for record in fitting:
        if record.key not in store:
            store.add(record, source.predictions(record))
    return len(fitting)


def forget(store: Store) -> None:
    """Take recorded fine-tuning out of a store, so that it can be measured anew."""
    for record in store:
        if record.protocol.finetuned and record.source:
            store.remove(record)


def ship(store: Store, command: str, *, shipped: Path | None = None) -> int:
    """Replace what ships by the fine-tuning records of `store`, marked as made by `command`; how many there are."""
    found = [record for record in store if record.probe == FINETUNE and not record.source]
    if not found:
        raise ValueError(f"no fine-tuning measured in {store.path}; run `otoscope demo --finetune` first")
    shipped = shipped or SHIPPED
    if shipped.exists():
        shutil.rmtree(shipped)
    for record in found:
        marked = dataclasses.replace(record, source=f"recorded with `{command}`")
        Store(shipped).add(marked, store.predictions(record))
    return len(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path, help="the results folder of a demo that was run with --finetune")
    parser.add_argument("--command", default="otoscope demo --finetune", help="the command it was made with")
    asked = parser.parse_args()
    print(f"{ship(Store(asked.store), asked.command)} records in {SHIPPED}")
