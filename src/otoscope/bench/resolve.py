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
from typing import Literal

from otoscope import bank as banks
from otoscope import datasets, encoders
from otoscope.bank import Bank, BankError, BankIdentity, BankSize, Requirements, estimate_size
from otoscope.bank.manifest import Manifest, bank_exists, check_identity
from otoscope.bench.cost import PairSize, Views
from otoscope.bench.plan import Pair
from otoscope.bench.specs import DatasetSpec, EncoderSpec, ProbeSpec
from otoscope.bench.suites import Suite, Unavailable, unavailable
from otoscope.datasets import Dataset
from otoscope.encoders import Encoder
from otoscope.sampling import MixupSet, TrainingSet


@dataclass(frozen=True)
class ResolvedPair:
    """A source that is there: how to create it again, its size, what its results must match, and its bank's folder.

    `identity`: of the bank; `task`: kind of the data set's task; `control`: whether the encoder has random weights;
    `views`: folder of the bank of each few-shot draw, where the data set has views.
    """

    encoder: EncoderSpec
    dataset: DatasetSpec
    fold: int | None
    identity: BankIdentity
    size: PairSize
    path: Path
    task: Literal["multi-label", "multi-class"]
    control: bool
    views: Mapping[int, Path] = field(default_factory=dict)

    def extract(self, *, device: str | None = None, progress: bool = False) -> Bank:
        """The bank, filled if it is not there; the encoder runs on `device`."""
        encoder = self.create_encoder().to(device or "cpu")
        return banks.extract(encoder, self.create_dataset(), self.path, **self.identity.arguments, progress=progress)

    def extract_views(self, draw: int, *, device: str | None = None, progress: bool = False) -> Bank:
        """The bank of a few-shot draw with its views, filled if it is not there."""
        encoder, data = self.create_encoder().to(device or "cpu"), MixupSet(self.shown(self.create_dataset(), draw))
        return banks.extract(encoder, data, self.views[draw], **self.identity.storage, progress=progress)

    def shown(self, dataset: Dataset, draw: int) -> TrainingSet:
        """What training on a draw sees of the data set."""
        cut, spec = "validation" not in self.size.clips, self.dataset
        return TrainingSet(dataset, cut=cut, shots=spec.shots, draw=draw, views=spec.views)

    def create_encoder(self) -> Encoder:
        """The encoder, its weights loaded."""
        return encoders.create(self.encoder.name, **self.encoder.options)

    def create_dataset(self) -> Dataset:
        """The data set, of this fold."""
        return datasets.create(self.dataset.name, **self.dataset.created_with(self.fold))


def find(suite: Suite, folder: Path, bank: Path | None = None) -> tuple[dict[Pair, ResolvedPair], list[Unavailable]]:
    """Every source of a suite that can be created, in its order, and what cannot, with the reason.

    Banks lie in `folder`, named by all that decides them, so that a changed encoder gets another; `bank` is that of a
    suite of one source. Nothing is written.
    """
    lacks = unavailable(suite)
    lacking = {(lack.kind, lack.name) for lack in lacks}
    reading = [e.requirements for e in suite.probes if isinstance(e, ProbeSpec) and ("probe", e.label) not in lacking]
    requirements = reduce(or_, reading, Requirements("last", "pooled"))
    there = [(d, fold) for d in suite.datasets if ("dataset", d.name) not in lacking for fold in d.folds]
    found: dict[Pair, ResolvedPair] = {}
    for spec in suite.encoders:
        if ("encoder", spec.label) in lacking:
            continue
        try:
            encoder = encoders.create(spec.name, **spec.options)
        except Exception as error:
            lacks.append(Unavailable("encoder", spec.label, f"cannot be created: {error}"))
            continue
        for data, fold in there:
            pair = Pair(spec.label, data.name, fold)
            try:
                resolved = _subject(spec, encoder, data, fold, requirements, folder, bank)
                found[pair] = _with_views(resolved, encoder, suite.draws, folder) if data.views else resolved
            except Exception as error:
                lacks.append(Unavailable("source", str(pair), f"cannot be heard: {error}"))
    return found, lacks


def _subject(
    spec: EncoderSpec,
    encoder: Encoder,
    data: DatasetSpec,
    fold: int | None,
    requirements: Requirements,
    folder: Path,
    bank: Path | None,
) -> ResolvedPair:
    dataset = datasets.create(data.name, **data.created_with(fold))
    identity = _identity(encoder, dataset, requirements, bank)
    path = bank or _bank_path(folder, f"{spec.label}-{data.name}", identity)
    guess, missing = _reckoned(encoder, dataset, path, identity)
    size = PairSize(
        clips=guess.clips,
        shape=encoder.shape,
        steps=guess.longest,
        parameters=sum(p.numel() for p in encoder.parameters()),
        classes=len(dataset.task.classes),
        bytes=missing,
    )
    return ResolvedPair(spec, data, fold, identity, size, path, dataset.task.kind, encoder.control)


def _identity(encoder: Encoder, dataset: Dataset, requirements: Requirements, bank: Path | None) -> BankIdentity:
    """That of the least bank that serves; for a given folder, of the one that is there if it serves, else of one of
    token maps, which later probes can read as well."""
    if bank is None:
        return BankIdentity.of(encoder, dataset, **asdict(requirements))
    there = Manifest.read(bank).identity if bank_exists(bank) else None
    if there is None or not requirements.met_by(there, encoder.shape.layers):
        return BankIdentity.of(encoder, dataset, layers=requirements.layers)
    return BankIdentity.of(encoder, dataset, **there.arguments)


def _with_views(resolved: ResolvedPair, encoder: Encoder, draws: int, folder: Path) -> ResolvedPair:
    """The subject with a bank of views for each draw."""
    dataset, paths, sizes = resolved.create_dataset(), {}, {}
    name = f"{resolved.encoder.label}-{resolved.dataset.name}"
    for draw in range(draws):
        data = MixupSet(resolved.shown(dataset, draw))
        identity = BankIdentity.of(encoder, data, **resolved.identity.storage)
        paths[draw] = _bank_path(folder, f"{name}-draw-{draw}", identity)
        guess, missing = _reckoned(encoder, data, paths[draw], identity)
        sizes[draw] = Views(guess.clips["train"], missing)
    return replace(resolved, views=paths, size=replace(resolved.size, views=sizes))


def _bank_path(folder: Path, name: str, identity: BankIdentity) -> Path:
    """A folder with a readable name, and another for all that decides a bank."""
    digest = hashlib.sha256(json.dumps(asdict(identity), sort_keys=True).encode()).hexdigest()
    return folder / (re.sub(r"[^\w.+-]", "_", name) + f"-{digest[:12]}")


def _reckoned(encoder: Encoder, dataset: Dataset, path: Path, identity: BankIdentity) -> tuple[BankSize, int]:
    """What a bank of this identity holds or will hold, and the bytes that are missing; `MismatchError` for another."""
    if bank_exists(path):
        check_identity(path, identity)
    try:
        return banks.open(path).size, 0
    except BankError:
        guess = estimate_size(encoder, dataset, identity)
        return guess, guess.bytes
