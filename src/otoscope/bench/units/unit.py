"""Units of work: parts of an extraction or of a suite that any process can do, and that may be done again.

A unit is done when its output exists. Doing it again changes nothing, so a unit whose process was killed is simply
started again by another process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A unit of work.

    Parameters
    ----------
    id : its number in the plan, from 0.
    kind : "extract" for shards of a bank, "study" for the runs of a study of a probe, "finetune" for runs that
        fine-tune an encoder.
    name : a text for people.
    bank : number of the bank that the unit writes, or for which its encoder and data set are described.
    minutes : estimated time in minutes on two cores.
    memory : estimated memory in MB.
    """

    id: int
    kind: str
    name: str
    bank: int
    minutes: float
    memory: int


@dataclass(frozen=True, kw_only=True)
class ExtractUnit(Unit):
    """Some shards of one split of a bank. It is done when their files exist.

    Parameters
    ----------
    split : name of the split.
    first, end : numbers of its first shard, and of the first shard after it.
    clips : number of clips.
    """

    kind: Literal["extract"] = "extract"
    split: str
    first: int
    end: int
    clips: int


@dataclass(frozen=True, kw_only=True)
class StudyUnit(Unit):
    """The search of a study and its final runs, or some of them. It is done when its marker and its records exist.

    Parameters
    ----------
    encoder, dataset : label of the encoder and name of the data set in the suite.
    study : `Study.file_name`.
    search : whether the unit makes the trials of the search.
    seeds : seeds of its final runs.
    after : number of the unit that makes the trials of the search; None if no other unit does.
    """

    kind: Literal["study", "finetune"]
    encoder: str
    dataset: str
    study: str
    search: bool
    seeds: tuple[int, ...]
    after: int | None = None


def to_json(unit: Unit) -> dict[str, Any]:
    """The unit as plain values."""
    return asdict(unit)


def from_json(stored: Mapping[str, Any]) -> Unit:
    """The unit that `to_json` wrote.

    Raises
    ------
    TypeError, KeyError, ValueError : when values are missing, or the kind is unknown.

    Examples
    --------
    >>> unit = ExtractUnit(id=3, name="a", bank=0, minutes=1.5, memory=900, split="train", first=0, end=2, clips=128)
    >>> from_json(to_json(unit)) == unit
    True
    """
    unit: Unit
    if stored["kind"] == "extract":
        unit = ExtractUnit(**stored)
    elif stored["kind"] in ("study", "finetune"):
        unit = StudyUnit(**{**stored, "seeds": tuple(stored["seeds"])})
    else:
        raise ValueError(f"a unit has the kind {stored['kind']!r}; known are 'extract', 'study' and 'finetune'")
    return unit
