"""The options with which the files of a user are read, and what a path lists."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from otoscope.datasets.sources.length import Length
from otoscope.datasets.sources.patterns import check_pattern
from otoscope.datasets.sources.rows import Rows
from otoscope.datasets.sources.splits import Cut
from otoscope.registry import unknown
from otoscope.results.checked import check_types

ON_BAD = ("fail", "skip")
"""What happens to a clip whose audio cannot be used."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the files of a user are read. They are the options of `FileDataset`, and the keys of a card.

    Parameters
    ----------
    label : the column with the labels; None for the only one that looks like it.
    columns : names of other columns by their role: path, folder, split, fold, group, start, end, onset, offset,
        duration. An empty name says that the table has no such column.
    separator : what stands between several labels in one field; None to recognise it, "" for one label in each field.
    pattern : a regular expression that finds the split, fold, group or label in the name of a file, by groups of these
        names, such as "(?P<fold>[0-9])-(?P<group>[0-9]+)-"; None where names tell nothing.
    audio : folder with the audio files, relative to the table; None to search for them beside the table.
    splits : what each split of the source stands for: "train", "validation" or "test". Others are left out.
    classes : the classes in their order; None for all labels, sorted. Other labels are left out.
    kind : "multi-class" or "multi-label"; None to infer it.
    metric : name of the main metric; None for accuracy or mAP.
    merge_labels : whether labels are one class that differ only in capital letters, spaces, the form of Unicode
        characters, or as numbers (1 and 1.0).
    missing_labels : texts in place of a label that mean that there is none, such as "NA".
    window, hop : cut windows of this many seconds, one every `hop` seconds (default: `window`).
    crop : use only the first seconds of each clip; not together with `window`.
    short : what happens to a window that the audio does not fill: "keep", "pad", "tile" or "drop" (`Length`).
    overlap : an event belongs to a window if it overlaps it by more than this many seconds.
    validation, test, seed : shares and seed of the stratified cut, made where there are no splits and no folds.
    on_bad : "fail" refuses a data set with clips whose audio is missing or cannot be used, "skip" leaves them out.

    Raises
    ------
    ValueError : when a value is not allowed.
    """

    label: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    separator: str | None = None
    pattern: str | None = None
    audio: str | None = None
    splits: Mapping[str, str] | None = None
    classes: tuple[str, ...] | None = None
    kind: Literal["multi-class", "multi-label"] | None = None
    metric: str | None = None
    merge_labels: bool = False
    missing_labels: tuple[str, ...] = ()
    window: float | None = None
    hop: float | None = None
    crop: float | None = None
    short: str = "keep"
    overlap: float = 0.0
    validation: float = 0.2
    test: float = 0.2
    seed: int = 0
    on_bad: str = "fail"

    def __post_init__(self) -> None:
        self._check_kinds()
        if self.on_bad not in ON_BAD:
            raise ValueError(f"on_bad must be one of {', '.join(ON_BAD)}, found {self.on_bad!r}")
        if self.kind not in (None, "multi-class", "multi-label"):
            raise ValueError(f"kind must be multi-class or multi-label, found {self.kind!r}")
        if self.crop is not None and self.window is not None:
            raise ValueError("give crop or window, not both")
        for name in self.columns:
            if name not in ROLES:
                raise ValueError(unknown("role of a column", name, ROLES))
        for role in (self.splits or {}).values():
            if role not in ("train", "validation", "test"):
                raise ValueError(f"splits must name train, validation or test, found {role!r}")
        if not (self.validation >= 0 and self.test > 0 and self.validation + self.test < 1):
            raise ValueError(
                f"the shares of validation ({self.validation}) and test ({self.test}) must leave a share for train"
            )
        if self.pattern is not None:
            check_pattern(self.pattern)
        _ = self.length

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Settings:
        """Make settings of plain values, such as those of a card.

        Raises
        ------
        TypeError : for an unknown option.
        """
        known = {f.name for f in fields(cls)}
        for name in options:
            if name not in known:
                raise TypeError(unknown_option(name, options[name]))
        values = dict(options)
        for name in ("classes", "missing_labels"):
            if isinstance(values.get(name), list):
                values[name] = tuple(map(_text, values[name]))
        for name in {"label", "audio", "separator"} & values.keys():
            values[name] = _text(values[name])
        if isinstance(values.get("columns"), Mapping):
            values["columns"] = {role: _text(name) for role, name in values["columns"].items()}
        return cls(**values)

    def _check_kinds(self) -> None:
        """Raise `ValueError` for a value of another kind than its option has."""
        for name, words in _KINDS.items():
            try:
                check_types(self, name)
            except ValueError:
                raise ValueError(f"{name} must be {words}, found {getattr(self, name)!r}") from None

    @property
    def length(self) -> Length:
        """The length policy."""
        if self.crop is not None:
            return Length(self.crop, None, self.short, self.overlap)
        return Length(self.window, self.hop or self.window, self.short, self.overlap)

    @property
    def cut(self) -> Cut:
        """The stratified cut."""
        return Cut(self.validation, self.test, self.seed)


ROLES = ("path", "folder", "split", "fold", "group", "start", "end", "onset", "offset", "duration")
"""The roles of columns beside the labels."""


_NUMBER, _NAME = "a number of seconds", "a text"
_KINDS = {
    "columns": 'an object of names by role, such as {"path": "Sound", "start": ""}',
    "splits": 'an object of train, validation or test by name, such as {"dev": "train"}',
    "classes": 'a list, such as ["cat", "dog"]',
    "merge_labels": "true or false",
    "missing_labels": 'a list, such as ["NA", "?"]',
    "seed": "a whole number",
    "validation": "a share, such as 0.2",
    "test": "a share, such as 0.2",
    **dict.fromkeys(("window", "hop", "crop", "overlap"), _NUMBER),
    **dict.fromkeys(("label", "separator", "pattern", "audio", "metric", "short", "on_bad"), _NAME),
}
"""What the value of each option must be, in words."""


def _text(value: Any) -> Any:
    """The text of a number: names of columns and classes may be numbers, which the command line parses."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def unknown_option(name: str, value: Any, columns: Iterable[str] = ()) -> str:
    """Write the message for an option that does not exist.

    Parameters
    ----------
    name, value : the option.
    columns : the columns of the table, which the message lists.

    Examples
    --------
    >>> print(unknown_option("group", "speaker", ["file", "speaker"]))
    unknown option 'group'; name a column by columns={"group": "speaker"}; columns of the table: file, speaker
    """
    names = ", ".join(columns)
    present = f"; columns of the table: {names}" if names else ""
    if name in ROLES:
        return f"unknown option {name!r}; name a column by columns={json.dumps({name: str(value)})}{present}"
    return unknown("option", name, ["fold", "name", *(f.name for f in fields(Settings))]) + present


@dataclass
class Listing:
    """What a path lists.

    Parameters
    ----------
    layout : what kind of source it is, for the description.
    rows : the rows whose audio was found.
    listed : number of clips that the source lists, with those whose audio is missing.
    classes : the classes where the source declares them, else None.
    kind : the kind of the task where the source declares it, else None.
    missing : names of the first clips whose audio is missing.
    notes : sentences about what was recognised or corrected.
    problems : sentences about what looks wrong.
    left_out : sentences about events and lines that the source has and the rows have not.
    ambiguous : names that fit several audio files, and therefore none.
    unused : a sentence about columns of the table that are not used; "" if there are none.
    """

    layout: str
    rows: Rows
    listed: int
    classes: tuple[str, ...] | None = None
    kind: Literal["multi-class", "multi-label"] | None = None
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    ambiguous: tuple[str, ...] = ()
    unused: str = ""

    @property
    def ambiguous_text(self) -> str:
        """The end of a sentence about missing files, where names fit several files; "" otherwise."""
        if not self.ambiguous:
            return ""
        return f"; {len(self.ambiguous):,} names fit several files, such as {self.ambiguous[0]!r}: add their folders"


class UnusableAudioError(ValueError):
    """Audio of a data set cannot be used, and `on_bad` is "fail".

    Parameters
    ----------
    counted : a sentence that counts the clips and says what to do.
    reasons : a sentence for each of the first clips.
    """

    def __init__(self, counted: str, reasons: Iterable[str]) -> None:
        super().__init__("\n  ".join([counted, *reasons]))
        self.counted = counted


class UnrecognisedError(ValueError):
    """A path whose layout is not recognised; the message says what was found there and what is understood."""
