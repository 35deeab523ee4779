"""Figures of the literature, and a user's results set beside them.

The figures ship with the package (`published.csv`): what the papers print for probes of frozen encoders and for
fine-tuning, without their per-clip predictions. A difference from them therefore has no paired interval.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from otoscope import metrics
from otoscope.report.table import Row
from otoscope.report.text import numbers
from otoscope.report.text.numbers import ABSENT
from otoscope.report.text.table import TextFormat, TextTable, document

Asked = Callable[[str, str, str], bool]
"""Whether an (encoder, data set, probe) is wanted, by names as `canonical` makes them."""


@dataclass(frozen=True)
class Figure:
    """A number that a paper prints; `value` is a fraction, `metric` "mAP" or "accuracy"."""

    paper: str
    encoder: str
    probe: str
    dataset: str
    metric: str
    value: float


@dataclass(frozen=True)
class Line:
    """A row of the user and a published figure of the same cell, or one of them alone."""

    row: Row | None
    figure: Figure | None

    @property
    def of(self) -> Row | Figure:
        """Whichever is there, the user's row first: it names encoder, data set, probe and metric."""
        found = self.row or self.figure
        assert found is not None
        return found

    @property
    def difference(self) -> float | None:
        """The user's value minus the published one, a fraction."""
        return self.row.value - self.figure.value if self.row and self.figure else None


def _fold(name: str) -> str:
    return re.sub(r"[-_ ]", "", name.lower())


_ALIASES = {
    _fold(alias): _fold(name)
    for name, aliases in {
        "A-MAE": ("Audio-MAE", "gaunernst/vit_base_patch16_1024_128.audiomae_as2m"),
        "EAT": ("EAT-base", "worstchan/EAT-base_epoch30_pretrain"),
        "SSLAM": ("ta012/SSLAM_pretrain",),
        "Dasheng": ("Dasheng-base", "mispeech/dasheng-base"),
        "BAT": ("BAT-vit-b16", "lrauch/BAT-vit-b16-pretrainedAS2M"),
        "as20k": ("audioset-20k", "audioset20k-balanced"),
        "as2m": ("audioset-2m", "audioset"),
        "sc2": ("speech-commands-v2", "speech-commands"),
        "hsn": ("birdset-hsn",),
    }.items()
    for alias in aliases
}


def canonical(name: str) -> str:
    """An encoder's, data set's or probe's name as it is compared: spelling aside, aliases and hub ids resolved.

    An option in the name makes another encoder, and "+" (fine-tuned on AudioSet) is part of the name.

    >>> canonical("Audio-MAE") == canonical("A-MAE"), canonical("urban_sed") == canonical("urban-sed")
    (True, True)
    >>> canonical("EAT-random") == canonical("EAT"), canonical("EAT+") == canonical("EAT")
    (False, False)
    """
    folded = _fold(name)
    return _ALIASES.get(folded, folded)


@cache
def figures() -> tuple[Figure, ...]:
    """Every published figure that ships, in the order of the file.

    >>> next(f.value for f in figures() if (f.encoder, f.probe, f.dataset) == ("A-MAE", "linear", "as20k"))
    0.0836
    """
    words = resources.files(__package__).joinpath("published.csv").read_text(encoding="utf-8")
    lines = csv.DictReader(words.splitlines())
    return tuple(Figure(value=round(float(line.pop("value")) / 100, 6), **line) for line in lines)


def beside(rows: Sequence[Row], asked: Asked = lambda *_: True) -> list[Line]:
    """Rows beside the literature: by data set, each row with every figure of its cell, then what the literature has
    for other encoders under the same probes, strongest first.

    A figure belongs to a row if data set, probe, encoder and metric are the same (`canonical`). `asked` cuts both.
    """
    kept, used, lines = [row for row in rows if asked(*_key(row))], set[Figure](), list[Line]()
    for row in kept:
        same = [f for f in figures() if _key(f) == _key(row) and f.metric == row.metric]
        used.update(same)
        lines += [Line(row, figure) for figure in same] or [Line(row, None)]
    held = {(canonical(row.dataset), canonical(row.probe), row.metric): row.dataset for row in kept}
    others = [f for f in figures() if (_key(f)[1], _key(f)[2], f.metric) in held and f not in used and asked(*_key(f))]
    lines += [
        Line(None, f) for f in sorted(others, key=lambda f: (f.probe, -metrics.create(f.metric).sort_key(f.value)))
    ]
    order = list(dict.fromkeys((canonical(row.dataset), row.metric) for row in kept))
    return sorted(lines, key=lambda line: order.index((canonical(line.of.dataset), line.of.metric)))


def flat(line: Line) -> dict[str, Any]:
    """A line as plain numbers, fractions; None where one side does not exist."""
    row, figure = line.row, line.figure
    ends = row.interval if row else None
    return {
        "encoder": line.of.encoder,
        "dataset": line.of.dataset,
        "probe": line.of.probe,
        "variant": row.variant if row else "",
        "metric": line.of.metric,
        "value": row.value if row else None,
        "low": ends.low if ends else None,
        "high": ends.high if ends else None,
        "seeds": len(row.records) if row else None,
        "published": figure.value if figure else None,
        "difference": line.difference,
        "published_encoder": figure.encoder if figure else "",
        "paper": figure.paper if figure else "",
    }


def text(lines: Sequence[Line], shape: TextFormat) -> str:
    """One table for each data set and metric, and under the last what the columns mean and what has no counterpart."""
    tables: dict[str, list[Line]] = {}
    for line in lines:
        name = next(o.row.dataset for o in lines if o.row and canonical(o.row.dataset) == canonical(line.of.dataset))
        tables.setdefault(f"{name}: {line.of.metric} in %, yours beside the published", []).append(line)
    header = ["encoder", "probe", "yours", "95 % interval", "published", "difference", "paper"]
    shown = [(words, TextTable(header, [_words(line) for line in held], left=2)) for words, held in tables.items()]
    return document(shown, _notes(lines), shape)


def _key(of: Row | Figure) -> tuple[str, str, str]:
    return canonical(of.encoder), canonical(of.dataset), canonical(of.probe)


def _words(line: Line) -> list[str]:
    row, figure = line.row, line.figure
    own = (
        [row.label, numbers.percent(row.value), numbers.span(row.interval)] if row else [line.of.probe, ABSENT, ABSENT]
    )
    theirs = [numbers.percent(figure.value), _short(figure.paper)] if figure else [ABSENT, ABSENT]
    difference = ABSENT if line.difference is None else numbers.signed(line.difference)
    return [line.of.encoder, *own, theirs[0], difference, theirs[1]]


def _short(paper: str) -> str:
    return paper.partition(" (")[0]


def _notes(lines: Sequence[Line]) -> list[str]:
    notes = [_missing(line.row) for line in lines if line.row and not line.figure]
    papers = dict.fromkeys(line.figure.paper for line in lines if line.figure)
    if any(line.difference is not None for line in lines):
        notes.append(
            "difference: yours minus published, in points; papers differ from your runs in splits, search and seeds, "
            "and print no per-clip predictions, so it has no paired interval"
        )
    return [*dict.fromkeys(notes), *(f"{_short(paper)}: {paper.partition(' (')[2].rstrip(')')}" for paper in papers)]


def _missing(row: Row) -> str:
    """Why a row has no figure beside it."""
    encoder, dataset, probe = _key(row)
    of_set = [f for f in figures() if canonical(f.dataset) == dataset]
    if not of_set:
        return (
            f"nothing is published for data set {row.dataset}; figures ship for {_names(f.dataset for f in figures())}"
        )
    of_probe = [f for f in of_set if canonical(f.probe) == probe]
    if not of_probe:
        return f"nothing is published for {row.probe} on {row.dataset}; there is {_names(f.probe for f in of_set)}"
    embeddings_loader = [f for f in of_probe if canonical(f.encoder) == encoder]
    if not embeddings_loader:
        known = _names(f.encoder for f in of_probe)
        return f"nothing is published for {row.encoder} with {row.probe} on {row.dataset}; there is {known}"
    metrics = _names(f.metric for f in embeddings_loader)
    return f"{row.encoder} with {row.probe} on {row.dataset} is published in {metrics}, yours is in {row.metric}"


def _names(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))
