"""The sources of a suite: which encoders and data sets are there, how large they are, and where their banks lie."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from operator import or_
from pathlib import Path

from otoscope import bank as banks
from otoscope import datasets, encoders
from otoscope.bank import Bank, BankError, Identity, Needs
from otoscope.bank.estimate import Estimate, estimate, held
from otoscope.bank.key import Manifest, is_begun, refuse_mismatch
from otoscope.bench.cost import Scale, Views
from otoscope.bench.entries import DatasetEntry, EncoderEntry, ProbeEntry
from otoscope.bench.plan import Source
from otoscope.bench.suites import Absent, Suite, absent
from otoscope.datasets import Dataset
from otoscope.encoders import Encoder
from otoscope.train.shown import Mixed, Shown


@dataclass(frozen=True)
class Subject:
    """A source that is there: how to create it again, its size, what its results must match, and its bank's folder.

    `identity`: of the bank; `views`: folder of the bank of each few-shot draw, where the data set has views.
    """

    encoder: EncoderEntry
    dataset: DatasetEntry
    fold: int | None
    identity: Identity
    scale: Scale
    path: Path
    views: Mapping[int, Path] = field(default_factory=dict)

    @property
    def digests(self) -> dict[str, str]:
        """Of the encoder and the data set, as records hold them."""
        return {name: getattr(self.identity, name) for name in ("encoder_digest", "dataset_digest")}

    def extract(self, *, device: str | None = None, progress: bool = False) -> Bank:
        """The bank, filled if it is not there; the encoder runs on `device`."""
        encoder = self.create_encoder().to(device or "cpu")
        return banks.extract(encoder, self.create_dataset(), self.path, **self.identity.arguments, progress=progress)

    def extract_views(self, draw: int, *, device: str | None = None, progress: bool = False) -> Bank:
        """The bank of a few-shot draw with its views, filled if it is not there."""
        encoder, data = self.create_encoder().to(device or "cpu"), Mixed(self.shown(self.create_dataset(), draw))
        return banks.extract(encoder, data, self.views[draw], **self.identity.kept, progress=progress)

    def shown(self, dataset: Dataset, draw: int) -> Shown:
        """What training on a draw sees of the data set."""
        cut, entry = "validation" not in self.scale.clips, self.dataset
        return Shown(dataset, cut=cut, shots=entry.shots, draw=draw, views=entry.views)

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
    reading = [e.needs for e in suite.probes if isinstance(e, ProbeEntry) and ("probe", e.label) not in lacking]
    needs = reduce(or_, reading, Needs("last", "pooled"))
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
                subject = _subject(entry, encoder, data, fold, needs, folder, bank)
                found[source] = _with_views(subject, encoder, suite.draws, folder) if data.views else subject
            except Exception as error:
                lacks.append(Absent("source", str(source), f"cannot be heard: {error}"))
    return found, lacks


def _subject(
    entry: EncoderEntry,
    encoder: Encoder,
    data: DatasetEntry,
    fold: int | None,
    needs: Needs,
    folder: Path,
    bank: Path | None,
) -> Subject:
    dataset = datasets.create(data.name, **data.created_with(fold))
    identity = _identity(encoder, dataset, needs, bank)
    path = bank or _bank_path(folder, f"{entry.label}-{data.name}", identity)
    guess, missing = _reckoned(encoder, dataset, path, identity)
    scale = Scale(
        clips=guess.clips,
        shape=encoder.shape,
        steps=guess.steps,
        parameters=sum(p.numel() for p in encoder.parameters()),
        classes=len(dataset.task.classes),
        bytes=missing,
    )
    return Subject(entry, data, fold, identity, scale, path)


def _identity(encoder: Encoder, dataset: Dataset, needs: Needs, bank: Path | None) -> Identity:
    """That of the least bank that serves; for a given folder, of the one that is there if it serves, else of one of
    token maps, which later probes can read as well."""
    if bank is None:
        return Identity.of(encoder, dataset, **asdict(needs))
    there = Manifest.read(bank).identity if is_begun(bank) else None
    if there is None or not needs.met_by(there, encoder.shape.layers):
        return Identity.of(encoder, dataset, layers=needs.layers)
    return Identity.of(encoder, dataset, **there.arguments)


def _with_views(subject: Subject, encoder: Encoder, draws: int, folder: Path) -> Subject:
    """The subject with a bank of views for each draw."""
    dataset, paths, sizes = subject.create_dataset(), {}, {}
    name = f"{subject.encoder.label}-{subject.dataset.name}"
    for draw in range(draws):
        data = Mixed(subject.shown(dataset, draw))
        identity = Identity.of(encoder, data, **subject.identity.kept)
        paths[draw] = _bank_path(folder, f"{name}-draw-{draw}", identity)
        guess, missing = _reckoned(encoder, data, paths[draw], identity)
        sizes[draw] = Views(guess.clips["train"], missing)
    return replace(subject, views=paths, scale=replace(subject.scale, views=sizes))


def _bank_path(folder: Path, name: str, identity: Identity) -> Path:
    """A folder with a readable name, and another for all that decides a bank."""
    digest = hashlib.sha256(json.dumps(asdict(identity), sort_keys=True).encode()).hexdigest()
    return folder / (re.sub(r"[^\w.+-]", "_", name) + f"-{digest[:12]}")


def _reckoned(encoder: Encoder, dataset: Dataset, path: Path, identity: Identity) -> tuple[Estimate, int]:
    """What a bank of this identity holds or will hold, and the bytes that are missing; `MismatchError` for another."""
    if is_begun(path):
        refuse_mismatch(path, identity)
    try:
        return held(banks.open(path)), 0
    except BankError:
        guess = estimate(encoder, dataset, identity)
        return guess, guess.bytes
