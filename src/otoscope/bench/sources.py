"""The sources of a suite: which encoders and data sets are there, how large they are, and where their banks lie."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from otoscope import bank as banks
from otoscope import datasets, encoders
from otoscope.bank import Bank, BankError, Identity
from otoscope.bank.estimate import estimate, held
from otoscope.bank.key import is_begun, refuse_mismatch
from otoscope.bench.cost import Scale
from otoscope.bench.entries import DatasetEntry, EncoderEntry
from otoscope.bench.plan import Source
from otoscope.bench.suites import Absent, Suite, absent
from otoscope.datasets import Dataset
from otoscope.encoders import Encoder


@dataclass(frozen=True)
class Subject:
    """A source that is there: how to create it again, its size, what its results must match, and its bank's folder.

    `layers`: "all" where a probe of the suite reads every layer, else "last".
    """

    encoder: EncoderEntry
    dataset: DatasetEntry
    fold: int | None
    layers: Literal["last", "all"]
    scale: Scale
    digests: dict[str, str]
    path: Path

    def extract(self, *, device: str | None = None, progress: bool = False) -> Bank:
        """The bank, filled if it is not there; the encoder runs on `device`."""
        encoder = self.create_encoder().to(device or "cpu")
        return banks.extract(encoder, self.create_dataset(), self.path, layers=self.layers, progress=progress)

    def create_encoder(self) -> Encoder:
        """The encoder, its weights loaded."""
        return encoders.create(self.encoder.name, **self.encoder.options)

    def create_dataset(self) -> Dataset:
        """The data set, of this fold."""
        return datasets.create(self.dataset.name, **self.dataset.created_with(self.fold))


def find(suite: Suite, folder: Path, bank: Path | None = None) -> tuple[dict[Source, Subject], list[Absent]]:
    """Every source of a suite that can be created, in its order, and what cannot, with the reason.

    Banks lie in `folder`, named by all that decides them, so that a changed encoder gets another; `bank` is that of a
    suite of one source. Nothing is written.
    """
    lacks = absent(suite)
    lacking = {(lack.kind, lack.name) for lack in lacks}
    deep = any(entry.reads_every_layer for entry in suite.probes if ("probe", entry.label) not in lacking)
    there = [(d, fold) for d in suite.datasets if ("dataset", d.name) not in lacking for fold in d.folds]
    found: dict[Source, Subject] = {}
    for entry in suite.encoders:
        if ("encoder", entry.label) in lacking:
            continue
        try:
            encoder = encoders.create(entry.name, **entry.options)
        except Exception as error:
            lacks.append(Absent("encoder", entry.label, f"cannot be created: {error}"))
            continue
        for data, fold in there:
            source = Source(entry.label, data.name, fold)
            try:
                found[source] = _subject(entry, encoder, data, fold, "all" if deep else "last", folder, bank)
            except Exception as error:
                lacks.append(Absent("source", str(source), f"cannot be heard: {error}"))
    return found, lacks


def _subject(
    entry: EncoderEntry,
    encoder: Encoder,
    data: DatasetEntry,
    fold: int | None,
    layers: Literal["last", "all"],
    folder: Path,
    bank: Path | None,
) -> Subject:
    dataset = datasets.create(data.name, **data.created_with(fold))
    identity = Identity.of(encoder, dataset, layers=layers)
    path = bank or folder / _folder_name(entry, data, identity)
    whole = _opened(path, identity)
    guess = estimate(encoder, dataset, layers=layers) if whole is None else held(whole)
    scale = Scale(
        clips=guess.clips,
        shape=encoder.shape,
        steps=guess.steps,
        parameters=sum(p.numel() for p in encoder.parameters()),
        classes=len(dataset.task.classes),
        bytes=guess.bytes if whole is None else 0,
    )
    digests = {"encoder_digest": identity.encoder_digest, "dataset_digest": identity.dataset_digest}
    return Subject(entry, data, fold, layers, scale, digests, path)


def _folder_name(entry: EncoderEntry, data: DatasetEntry, identity: Identity) -> str:
    """Readable, and different for all that decides a bank."""
    digest = hashlib.sha256(json.dumps(asdict(identity), sort_keys=True).encode()).hexdigest()
    return re.sub(r"[^\w.+-]", "_", f"{entry.label}-{data.name}") + f"-{digest[:12]}"


def _opened(path: Path, identity: Identity) -> Bank | None:
    """The bank of this identity, None where it is not whole; `MismatchError` for another one."""
    if is_begun(path):
        refuse_mismatch(path, identity)
    try:
        return banks.open(path)
    except BankError:
        return None
