"""What is known about the convergence of the trainings behind a score, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from otoscope.report.text.table import NOT_CONVERGED
from otoscope.results import Record
from otoscope.results.convergence import advice


@dataclass(frozen=True)
class Convergence:
    """The convergence of several trainings of one probe on one encoder and data set.

    Parameters
    ----------
    counts : each reason why trainings have not converged, with the number of these trainings.
    trainings : number of trainings.
    unknown : number of trainings of which it is not known whether they have converged.
    noun : what the trainings are called.

    Examples
    --------
    >>> Convergence((("the validation score was still rising", 2),), 3).reasons()
    '2 of 3 seeds: the validation score was still rising'
    """

    counts: tuple[tuple[str, int], ...] = ()
    trainings: int = 1
    unknown: int = 0
    noun: str = "seeds"

    @classmethod
    def of(cls, records: Iterable[Record], noun: str = "seeds") -> Convergence:
        """The convergence of the trainings of these records, which are called `noun`."""
        known = [record.not_converged for record in records]
        counts = Counter(reason for reasons in known for reason in reasons or ())
        return cls(tuple(counts.items()), len(known), known.count(None), noun)

    @property
    def incomplete(self) -> bool:
        """Whether at least one training has not converged."""
        return bool(self.counts)

    @property
    def mark(self) -> str:
        """The mark of a score: "‡" if a training has not converged, else an empty text."""
        return NOT_CONVERGED if self.incomplete else ""

    @property
    def advice(self) -> str:
        """What to do about the reasons."""
        return advice(reason for reason, _ in self.counts)

    def reasons(self) -> str:
        """The reasons as one phrase; the number of trainings is given where a reason holds for some of them only."""
        return "; ".join(
            reason if count == self.trainings else f"{count} of {self.trainings} {self.noun}: {reason}"
            for reason, count in self.counts
        )

    def value(self) -> str:
        """The reasons for CSV, JSON and Parquet; "unknown" if there are none and one training does not say, else ""."""
        return self.reasons() or ("unknown" if self.unknown else "")


def notes(scores: Iterable[tuple[str, Convergence]]) -> list[str]:
    """Write the footnotes of scores that are marked, one for each reason.

    Parameters
    ----------
    scores : what has the score, and the convergence of its trainings. Scores that have converged are left out.

    Examples
    --------
    >>> rising = "the validation score was still rising"
    >>> marked, half = Convergence(((rising, 1),)), Convergence(((rising, 1),), trainings=2)
    >>> notes([("linear", marked), ("mean", Convergence()), ("mhca", half)])
    ['‡ not converged, the validation score was still rising: linear; mhca (1 of 2 seeds). Train longer (--epochs).']
    """
    names: dict[str, list[str]] = {}
    for name, convergence in scores:
        for reason, count in convergence.counts:
            share = (
                "" if count == convergence.trainings else f" ({count} of {convergence.trainings} {convergence.noun})"
            )
            names.setdefault(reason, []).append(name + share)
    return [
        f"{NOT_CONVERGED} not converged, {reason}: {'; '.join(names[reason])}.{_sentence(reason)}" for reason in names
    ]


def caveat(
    sides: Sequence[tuple[str, Convergence]],
    about: str,
    *,
    comparison: str = "this",
    start: str = "",
) -> str:
    """Write what a comparison says if a side has not converged.

    Parameters
    ----------
    sides : label and convergence of each side.
    about : what the comparison would otherwise be about, such as "the encoder".
    comparison : how the clause refers to the comparison.
    start : text before the clause.

    Returns
    -------
    str. A clause; "" if all sides have converged as far as it is known.

    Examples
    --------
    >>> caveat([("protobin", Convergence()), ("linear", Convergence((("its loss still falls", 1),)))], "the encoder")
    'linear has not converged (its loss still falls): this is a statement about its training, not about the encoder'
    """
    incomplete = [(label, side) for label, side in sides if side.incomplete]
    if not incomplete:
        return ""
    names = " and ".join(label for label, _ in incomplete)
    if len(incomplete) == 1:
        verb, reasons, its = "has", incomplete[0][1].reasons(), "its"
    else:
        verb, reasons, its = "have", "; ".join(f"{label}: {side.reasons()}" for label, side in incomplete), "their"
    actions = advice(reason for _, side in incomplete for reason, _ in side.counts)
    statement = f"{comparison} is a statement about {its} training, not about {about}"
    return f"{start}{names} {verb} not converged ({reasons}): {statement}{_after(actions)}"


def _sentence(reason: str) -> str:
    action = advice([reason])
    return f" {action[0].upper()}{action[1:]}." if action else ""


def _after(actions: str) -> str:
    return f"; {actions}" if actions else ""
