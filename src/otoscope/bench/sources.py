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
from otoscope.bank import Bank, BankError
from otoscope.bank.estimate import estimate
from otoscope.bank.key import Holds
from otoscope.bench.cost import Scale
from otoscope.bench.entries import DatasetEntry, EncoderEntry, ProbeEntry
from otoscope.bench.plan import Source
from otoscope.bench.suites import Absent, Suite, absent
from otoscope.datasets import Dataset
from otoscope.encoders import Encoder


@dataclass(frozen=True)
class Subject:
    """A source that is there: how to create it again, its size, what its results must match, and its bank's folder.

    `layers`: "all" where a probe of the suite reads every layer, else "last"; `holds`: "pooled" where none reads a map.
    """

    encoder: EncoderEntry
    dataset: DatasetEntry
    fold: int | None
    layers: Literal["last", "all"]
    scale: Scale
    digests: dict[str, str]
    path: Path
    holds: Holds = "tokens"

    @property
    def kept(self) -> str:
        """What the bank keeps of a clip, in a word: "all", "last", or either with "-pooled"."""
        return self.layers if self.holds == "tokens" else f"{self.layers}-{self.holds}"

    def extract(self, *, device: str | None = None, progress: bool = False) -> Bank:
        """The bank, filled if it is not there; the encoder runs on `device`."""
        encoder, data = self.create_encoder().to(device or "cpu"), self.create_dataset()
        return banks.extract(encoder, data, self.path, layers=self.layers, holds=self.holds, progress=progress)

    def create_encoder(self) -> Encoder:
        """The encoder, its weights loaded."""
        return encoders.create(self.encoder.name, **self.encoder.options)

    def create_dataset(self) -> Dataset:
        """The data set, of this fold."""
        return datasets.create(self.dataset.name, **self.dataset.created_with(self.fold))


def find(suite: Suite, folder: Path) -> tuple[dict[Source, Subject], list[Absent]]:
    """Every source of a suite that can be created, in its order, and what cannot, with the reason.

    Banks lie in `folder`, named by all that decides them, so that a changed encoder gets another. Nothing is written.
    """
    lacks = absent(suite)
    lacking = {(lack.kind, lack.name) for lack in lacks}
    deep = any(entry.reads_every_layer for entry in suite.probes if ("probe", entry.label) not in lacking)
    reading = [e.name for e in suite.probes if isinstance(e, ProbeEntry) and ("probe", e.label) not in lacking]
    holds = banks.needs(reading).holds if reading else "tokens"
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
                found[source] = _subject(entry, encoder, data, fold, "all" if deep else "last", holds, folder)
            except Exception as error:
                lacks.append(Absent("source", str(source), f"cannot be heard: {error}"))
    return found, lacks


def _subject(
    entry: EncoderEntry,
    encoder: Encoder,
    data: DatasetEntry,
    fold: int | None,
    layers: Literal["last", "all"],
    holds: Holds,
    folder: Path,
) -> Subject:
    dataset = datasets.create(data.name, **data.created_with(fold))
    guess = estimate(encoder, dataset, layers=layers, holds=holds)
    digest = hashlib.sha256(json.dumps(asdict(guess.identity), sort_keys=True).encode()).hexdigest()
    readable = re.sub(r"[^\w.+-]", "_", f"{entry.label}-{data.name}")
    path = folder / f"{readable}-{digest[:12]}"
    scale = Scale(
        clips=guess.clips,
        shape=encoder.shape,
        steps=guess.steps,
        parameters=sum(p.numel() for p in encoder.parameters()),
        classes=len(dataset.task.classes),
        bytes=0 if _is_whole(path) else guess.bytes,
    )
    digests = {"encoder_digest": guess.identity.encoder_digest, "dataset_digest": guess.identity.dataset_digest}
    return Subject(entry, data, fold, layers, scale, digests, path, holds)


def _is_whole(path: Path) -> bool:
    try:
        return bool(banks.open(path))
    except BankError:
        return False
