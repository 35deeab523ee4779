"""Checks of the splits that a training needs."""

from __future__ import annotations

from otoscope import metrics
from otoscope.bank import Bank, BankSplit
from otoscope.registry import UnknownNameError
from otoscope.sampling import FOLDS


def has_validation(bank: Bank) -> bool:
    """Whether a bank has a validation split."""
    try:
        bank.split("validation")
    except UnknownNameError:
        return False
    return True


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
    ValueError : when a split has no positive label, when all train clips of a task with one label per clip have the
        same one, when there is no validation split and the probe needs one, or when there is none and the train split
        has a single clip.
    """
    metrics.main_metric(bank.task)
    validated = has_validation(bank)
    if not validated and solver != "exact":
        raise ValueError(
            f"probe {probe!r} needs a validation split, because it is not solved exactly; the bank at {bank.path} has "
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
    _check_train(bank, bank.split("train"), validated)


def _check_train(bank: Bank, training: BankSplit, validated: bool) -> None:
    """Check that there are clips for a cross-validation without a validation split, and at least two classes."""
    if not validated and len(training) < 2:
        raise ValueError(
            f"cross-validation needs at least two train clips, and the train split of {bank.path} has {len(training)} "
            "and the bank no validation split; extract a bank with more train clips, or with a validation split"
        )
    occurring = training.targets.any(0).nonzero().flatten().tolist()
    if bank.task.kind == "multi-class" and len(occurring) < 2:
        raise ValueError(
            f"all {len(training)} train clips of {bank.path} have the label {bank.task.classes[occurring[0]]!r}, one "
            f"of {len(bank.task.classes)} classes; at least two classes must occur in the train split: extract a bank "
            "with train clips of other classes"
        )
