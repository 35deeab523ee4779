"""The recorded fine-tuning reference: a store that is part of the package, because fine-tuning takes long.

`python -m otoscope.bench.recorded demo/results --command "otoscope demo --finetune"` replaces the records in the
package with the fine-tuning records of a demo.
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
    """Whether a record was measured with the encoder and the data set of a bank, by their identities."""
    digests = (record.protocol.encoder_digest, record.protocol.dataset_digest)
    return digests == (identity.encoder_identity, identity.dataset_identity)


def copy_to(store: Store, encoder: str, identity: BankIdentity, *, shipped: Path | None = None) -> int:
    """Copy the shipped records of an encoder and a data set into a store.

    Parameters
    ----------
    store : the store to which the records are added. Records that it already contains are not changed.
    encoder : label of the encoder in the records.
    identity : identity of a bank of the encoder and the data set.
    shipped : folder of the shipped records; None for those of this package.

    Returns
    -------
    int. Number of the shipped records of this encoder and data set.
    """
    source = Store(shipped or SHIPPED)
    matching = [r for r in source if r.encoder == encoder and matches(r, identity)]
    for record in matching:
        if record.key not in store:
            store.add(record, source.predictions(record))
    return len(matching)


def remove_from(store: Store) -> None:
    """Remove recorded fine-tuning from a store, so that it can be measured."""
    for record in store:
        if record.protocol.finetuned and record.source:
            store.remove(record)


def ship(store: Store, command: str, *, shipped: Path | None = None) -> int:
    """Replace the records of the package.

    Parameters
    ----------
    store : results with measured fine-tuning.
    command : the command that made them, for `Record.source`.
    shipped : folder of the shipped records; None for those of this package.

    Returns
    -------
    int. Number of records.

    Raises
    ------
    ValueError : without measured fine-tuning in the store.
    """
    measured = [record for record in store if record.probe == FINETUNE and not record.source]
    if not measured:
        raise ValueError(f"no fine-tuning measured in {store.path}; run `otoscope demo --finetune` first")
    shipped = shipped or SHIPPED
    if shipped.exists():
        shutil.rmtree(shipped)
    for record in measured:
        marked = dataclasses.replace(record, source=f"recorded with `{command}`")
        Store(shipped).add(marked, store.predictions(record))
    return len(measured)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path, help="the results folder of a demo that was run with --finetune")
    parser.add_argument("--command", default="otoscope demo --finetune", help="the command it was made with")
    args = parser.parse_args()
    print(f"{ship(Store(args.store), args.command)} records in {SHIPPED}")
