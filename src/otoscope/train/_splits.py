"""Checks of the splits that a training needs."""

from __future__ import annotations

from otoscope import metrics
from otoscope.bank import Bank, BankSplit
from otoscope.probes import FrameProbe, registry
from otoscope.sampling import FOLDS, has_validation


def count_folds(training: BankSplit) -> int:
    """Number of folds of a cross-validation on a train split: `FOLDS`, or its number of clips."""
    return min(FOLDS, len(training))


def check_splits(probe: str, bank: Bank, solver: str) -> None:
    """Check that a bank has the splits that a probe needs, with labels.

    Parameters
    ----------
    probe : registered name of the probe.
    bank : the bank to fit on.
    solver : how the probe is fitted, see `otoscope.probes.solver_of`.

    Raises
    ------
    TypeError : for a frame probe that is trained by gradient.
    ValueError : when a split has no positive label, when all train clips of a task with one label per clip have the
        same one and the probe is a clip probe, when there is no validation split and the probe needs one, when there is
        none and the train split has a single clip, or when a split has no events, or not those of all labels, and the
        probe is a frame probe.
    """
    metrics.main_metric(bank.task)
    on_frames = issubclass(registry.get(probe), FrameProbe)
    if on_frames and solver != "exact":
        raise TypeError(
            f"probe {probe!r} emits frame logits and would be trained by gradient, for which there is no loss over "
            "time steps; fit 'linear-frame' with solver='exact', its default, or a clip probe"
        )
    validated = has_validation(bank)
    if not validated and solver != "exact":
        raise ValueError(
            f"probe {probe!r} needs a validation split, because it is not solved exactly; the bank at {bank.place} has "
            "none. otoscope.sampling.with_validation(bank) cuts one from the train split; `otoscope probe` and suites "
            "do so themselves"
        )
    for name in ("train", "validation") if validated else ("train",):
        split = bank.split(name)
        if not len(split) or not bool(split.targets.any()):
            raise ValueError(
                f"the {name} split holds {len(split)} clips and no positive label: nothing can be "
                f"{'learnt' if name == 'train' else 'selected'} on it; extract a bank whose {name} split has labels"
            )
        if on_frames:
            _check_events(probe, bank, split)
    _check_train(bank, bank.split("train"), validated=validated, on_frames=on_frames)


def _check_train(bank: Bank, training: BankSplit, *, validated: bool, on_frames: bool) -> None:
    """Check that there are clips for a cross-validation if it is needed, and two classes if clips have one label."""
    if not validated and len(training) < 2:
        raise ValueError(
            f"cross-validation needs at least two train clips, and the train split of {bank.path} has {len(training)} "
            "and the bank no validation split; extract a bank with more train clips, or with a validation split"
        )
    occurring = training.targets.any(0).nonzero().flatten().tolist()
    if bank.task.kind == "multi-class" and not on_frames and len(occurring) < 2:
        raise ValueError(
            f"all {len(training)} train clips of {bank.path} have the label {bank.task.classes[occurring[0]]!r}, one "
            f"of {len(bank.task.classes)} classes; at least two classes must occur in the train split: extract a bank "
            "with train clips of other classes"
        )


def _check_events(probe: str, bank: Bank, split: BankSplit) -> None:
    """Check that every label of every clip of a split has an event."""
    if not any(split.events):
        raise ValueError(
            f"frame probe {probe!r} needs events (onset, offset, label), but the {len(split)} clips of the "
            f"{split.name} split of {bank.path} have none: their labels belong to whole clips. Fit a clip probe, such "
            "as 'linear', or use a data set with events"
        )
    missing = [(row, name) for row in range(len(split)) for name in _labels_without_event(bank, split, row)]
    if missing:
        row, name = missing[0]
        raise ValueError(
            f"frame probe {probe!r} needs an event for every label, but {len(missing)} labels in the {split.name} "
            f"split of {bank.path} have none, such as {name!r} of clip {split.ids[row]!r}; add their events, or fit on "
            "a data set without these clips"
        )


def _labels_without_event(bank: Bank, split: BankSplit, row: int) -> list[str]:
    """Labels of a clip for which it has no event, sorted."""
    labels = {bank.task.classes[column] for column in split.targets[row].nonzero()[:, 0].tolist()}
    return sorted(labels - {event.label for event in split.events[row]})
