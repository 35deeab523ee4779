"""The pairs of a suite on this machine: which ones can be used, how large they are, and where their banks are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import reduce
from operator import or_
from pathlib import Path

from otoscope import bank as banks
from otoscope import datasets, encoders
from otoscope.bank import BankError, BankIdentity, BankSize, Requirements, estimate_size
from otoscope.bank.default_folder import folder_beside
from otoscope.bank.manifest import Manifest, bank_exists, check_identity
from otoscope.bank.size import bytes_per_clip
from otoscope.bench.cost import PairSize, Views
from otoscope.bench.plan import Pair
from otoscope.bench.resolved_pair import ResolvedPair
from otoscope.bench.specs import DatasetSpec, EncoderSpec, ProbeSpec
from otoscope.bench.suites import Suite, Unavailable, unavailable
from otoscope.datasets import Dataset, Fold, Folds
from otoscope.datasets.catalog import MissingFilesError
from otoscope.datasets.checks import checked_clips
from otoscope.datasets.doubts import warn_of_doubts
from otoscope.encoders import Encoder
from otoscope.files import readable_name
from otoscope.sampling import MixupSet, TrainingSet


def resolve(
    suite: Suite, folder: Path, bank: Path | None = None, *, beside: bool = False, stored: bool = True
) -> tuple[dict[Pair, ResolvedPair], list[Unavailable]]:
    """Create every encoder and data set of a suite and measure their size. Nothing is written.

    Parameters
    ----------
    suite : the suite.
    folder : folder of the banks. Each bank is named by its identity, so that a changed encoder has another bank.
    bank : folder of the bank, for a suite with a single pair.
    beside : whether a folder beside `bank` is used if `bank` has the bank of another encoder or data set.
    stored : whether tokens are stored in banks; False to encode clips on the fly.

    Returns
    -------
    The pairs that can be used, in the order of the suite, and what cannot be used, with the reason.
    """
    missing = unavailable(suite)
    unusable = {(item.kind, item.name) for item in missing}
    probes = [spec for spec in suite.probes if isinstance(spec, ProbeSpec) and ("probe", spec.label) not in unusable]
    requirements = reduce(or_, [spec.requirements for spec in probes], Requirements("last", "pooled"))
    created = [
        _create_dataset(spec, folds)
        for spec in suite.datasets
        for folds in spec.fold_units
        if ("dataset", spec.name) not in unusable
    ]
    missing += dict.fromkeys(item for item in created if isinstance(item, Unavailable))
    usable = [item for item in created if not isinstance(item, Unavailable)]
    resolved: dict[Pair, ResolvedPair] = {}
    for spec in suite.encoders:
        if ("encoder", spec.label) in unusable:
            continue
        try:
            encoder = encoders.create(spec.name, **spec.options)
        except Exception as error:
            reason = f"cannot be created: {error}"
            if not (spec.added and reason in [item.reason for item in missing]):  # a control fails as its encoder does
                missing.append(Unavailable("encoder", spec.label, reason))
            continue
        if (problem := _control_problem(suite, spec, encoder)) is not None:
            missing.append(problem)
        if spec.added and not encoder.control:
            continue
        for dataset_spec, folds, dataset in usable:
            pair = Pair(spec.label, dataset_spec.name, folds[0] if len(folds) == 1 else None)
            try:
                given = folder_beside(bank, encoder, dataset) if bank and beside else bank
                for one in _resolve_pairs(spec, encoder, dataset_spec, folds, dataset, requirements, folder, given):
                    pair = Pair(spec.label, dataset_spec.name, one.fold)
                    one = one if stored else _not_stored(one)
                    resolved[pair] = _with_views(one, encoder, suite.draws, folder) if dataset_spec.views else one
            except Exception as error:
                missing.append(Unavailable("pair", str(pair), f"cannot be encoded: {error}"))
    return resolved, missing


def _create_dataset(
    spec: DatasetSpec, folds: tuple[Fold, ...]
) -> tuple[DatasetSpec, tuple[Fold, ...], Dataset] | Unavailable:
    """A data set with these folds, whose labels and splits are checked, or why it cannot be used."""
    name = spec.name
    try:
        dataset = datasets.create(spec.name, **spec.options_of_fold(None if spec.declared else folds[0]))
        for fold in folds:
            name = spec.name if fold is None else f"{spec.name}, fold {fold}"
            _check(dataset.fold(fold) if isinstance(dataset, Folds) else dataset, spec.allow_shared)
    except Exception as error:
        name = spec.name if isinstance(error, MissingFilesError) else name
        return Unavailable("dataset", name, str(error))
    return spec, folds, dataset


def _check(dataset: Dataset, allow_shared: bool) -> None:
    warn_of_doubts(dataset, checked_clips(dataset, allow_shared=allow_shared))
    if not dataset.has_validation:
        checked_clips(TrainingSet(dataset, cut=True), ("train", "validation"))


def _control_problem(suite: Suite, spec: EncoderSpec, encoder: Encoder) -> Unavailable | None:
    """Why an encoder has no control, or why it cannot be used as an added one; None where all is well."""
    name = f"encoder {spec.name!r}"
    if spec.added and not encoder.control:
        reason = f"{name} does not set control = True with the options of `control_options`, {dict(spec.options)}"
        return Unavailable("control", spec.label, reason)
    linked = encoder.control or any(other.control_of == spec.label for other in suite.encoders)
    if linked or not suite.control:
        return None
    reason = f"{name} cannot be created with random weights; its method `control_options` returns None"
    return Unavailable("control", spec.label, reason)


def _resolve_pairs(
    encoder_spec: EncoderSpec,
    encoder: Encoder,
    dataset_spec: DatasetSpec,
    folds: Sequence[Fold],
    dataset: Dataset,
    requirements: Requirements,
    folder: Path,
    bank: Path | None,
) -> list[ResolvedPair]:
    """The pairs of an encoder with folds that share a bank, or with a data set without folds or one fold of it."""
    identity, path = _bank(encoder, dataset, requirements, bank, folder, f"{encoder_spec.label}-{dataset_spec.name}")
    bank_size, missing_bytes = _bank_size(encoder, dataset, path, identity)
    size = PairSize(
        clips=bank_size.clips,
        shape=encoder.shape,
        steps=bank_size.longest,
        parameters=sum(p.numel() for p in encoder.parameters()),
        classes=len(dataset.task.classes),
        bytes=missing_bytes,
    )
    kind = dataset.task.kind
    whole = ResolvedPair(encoder_spec, dataset_spec, folds[0], identity, size, path, kind, encoder.control)
    whole = replace(whole, remarks=dataset.remarks)
    if not isinstance(dataset, Folds):
        return [whole]
    size = replace(size, bank=str(path), bank_clips=sum(size.clips.values()))
    counts = {fold: {split: len(rows) for split, rows in dataset.rows[fold].items()} for fold in folds}
    return [replace(whole, fold=fold, size=replace(size, clips=counts[fold])) for fold in folds]


def _bank(
    encoder: Encoder, dataset: Dataset, requirements: Requirements, bank: Path | None, folder: Path, name: str
) -> tuple[BankIdentity, Path]:
    """The identity and the folder of the bank of a pair: one of all layers if only that is complete.

    A bank of all layers has the tokens of the last one, too, so that after a layer profile nothing is encoded again.
    """
    identity = _identity(encoder, dataset, requirements, bank)
    path = bank or _bank_path(folder, name, identity)
    if bank is None and not _is_complete(path):
        of_all = _identity(encoder, dataset, replace(requirements, layers="all"), None)
        if _is_complete(other := _bank_path(folder, name, of_all)):
            return of_all, other
    return identity, path


def _is_complete(path: Path) -> bool:
    """Whether a folder contains a bank with all clips of all splits."""
    try:
        banks.open(path)
    except BankError:
        return False
    return True


def _not_stored(resolved: ResolvedPair) -> ResolvedPair:
    """The pair without a bank. Its clips are encoded in every epoch, unless their tokens fit into memory."""
    size, identity = resolved.size, resolved.identity
    largest = max(size.clips.values()) * bytes_per_clip(identity, size.steps)
    kept = identity.content == "pooled" or banks.kept_in_memory(largest)
    return replace(resolved, stored=False, size=replace(size, bytes=0, on_the_fly=True, kept=kept))


def _identity(encoder: Encoder, dataset: Dataset, requirements: Requirements, bank: Path | None) -> BankIdentity:
    """The identity of the bank of a pair.

    Without `bank`, it is the identity of the smallest bank that meets the requirements. With `bank`, a folder that the
    user gave, it is the identity of the bank in this folder if that bank meets the requirements. Otherwise it is the
    identity of a bank with token maps, which other probes can read later.
    """
    if bank is None:
        return BankIdentity.of(encoder, dataset, **asdict(requirements))
    existing = Manifest.read(bank).identity if bank_exists(bank) else None
    if existing is None or not requirements.met_by(existing, encoder.shape.layers):
        return BankIdentity.of(encoder, dataset, layers=requirements.layers)
    return BankIdentity.of(encoder, dataset, **existing.arguments)


def _with_views(resolved: ResolvedPair, encoder: Encoder, draws: int, folder: Path) -> ResolvedPair:
    """The pair with a bank of views for each few-shot draw."""
    paths, sizes = {}, {}
    name = f"{resolved.encoder.label}-{resolved.dataset.name}"
    for draw in range(draws):
        views = MixupSet(resolved.create_training_set(draw))
        identity = BankIdentity.of(encoder, views, **resolved.identity.storage)
        paths[draw] = _bank_path(folder, f"{name}-draw-{draw}", identity)
        bank_size, missing_bytes = _bank_size(encoder, views, paths[draw], identity)
        sizes[draw] = Views(bank_size.clips["train"], missing_bytes if resolved.stored else 0)
    return replace(resolved, views=paths, size=replace(resolved.size, views=sizes))


def _bank_path(folder: Path, name: str, identity: BankIdentity) -> Path:
    """A folder with a readable name and a digest of the identity."""
    digest = hashlib.sha256(json.dumps(asdict(identity), sort_keys=True).encode()).hexdigest()
    return folder / f"{readable_name(name)}-{digest[:12]}"


def _bank_size(encoder: Encoder, dataset: Dataset, path: Path, identity: BankIdentity) -> tuple[BankSize, int]:
    """Size of a bank and number of bytes still to write. Raises `MismatchError` if the folder contains another bank."""
    if bank_exists(path):
        check_identity(path, identity, dataset)
    try:
        return banks.open(path).size, 0
    except BankError:
        estimate = estimate_size(encoder, dataset, identity)
        return estimate, estimate.bytes
