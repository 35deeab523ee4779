"""Tables as text: aligned for a terminal, Markdown, LaTeX, CSV, JSON. Values are shown in percentage points."""

from __future__ import annotations

import csv
import io
import json
import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from otoscope.metrics.stats import Interval
from otoscope.report.table import LINEAR, Row

Shape = Literal["table", "markdown", "latex"]
Format = Literal["table", "csv", "json", "markdown", "latex"]
WINNER, RECORDED, ABSENT = "★", "†", "–"
_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
_LATEX |= {
    WINNER: r"$\star$",
    RECORDED: r"$\dagger$",
    ABSENT: "--",
    "−": "$-$",
    "±": r"$\pm$",
    "…": r"\dots{}",
    "τ": r"$\tau$",
}


@dataclass(frozen=True)
class Cells:
    """A table of words: `header` [columns], `body` [rows][columns]; the first `left` columns are flush left."""

    header: Sequence[str]
    body: Sequence[Sequence[str]]
    left: int = 1

    def text(self) -> str:
        """Aligned columns under a thin rule.

        >>> print(Cells(["probe", "mAP"], [["linear", "9.1"], ["protobin", "21.4"]]).text())
        probe      mAP
        ──────────────
        linear     9.1
        protobin  21.4
        """
        rows = [self.header, *self.body]
        widths = [max(_width(row[i]) for row in rows) for i in range(len(self.header))]
        lines = ["  ".join(self._pad(row, widths)).rstrip() for row in rows]
        return "\n".join([lines[0], "─" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]])

    def markdown(self) -> str:
        """A Markdown table.

        >>> print(Cells(["probe", "mAP"], [["linear", "9.1"]]).markdown())
        | probe | mAP |
        |:--|--:|
        | linear | 9.1 |
        """
        rule = "|".join([":--"] * self.left + ["--:"] * (len(self.header) - self.left))
        lines = [
            "| " + " | ".join(word.replace("|", "\\|") for word in row) + " |" for row in (self.header, *self.body)
        ]
        return "\n".join([lines[0], f"|{rule}|", *lines[1:]])

    def latex(self) -> str:
        r"""A table for LaTeX with the package booktabs; nothing in it needs more than ASCII, names aside.

        >>> print(Cells(["probe", "gain in %"], [["wsum_2", "−0.4"]]).latex())
        \begin{tabular}{lr}
        \toprule
        probe & gain in \% \\
        \midrule
        wsum\_2 & $-$0.4 \\
        \bottomrule
        \end{tabular}
        """
        columns = "l" * self.left + "r" * (len(self.header) - self.left)
        head, *lines = [
            " & ".join("".join(_LATEX.get(sign, sign) for sign in word) for word in row) + r" \\"
            for row in (self.header, *self.body)
        ]
        top, bottom = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"], [r"\bottomrule", r"\end{tabular}"]
        return "\n".join([*top, head, r"\midrule", *lines, *bottom])

    def shaped(self, shape: Shape) -> str:
        """In one of the shapes for the eye."""
        return {"table": self.text, "markdown": self.markdown, "latex": self.latex}[shape]()

    def _pad(self, row: Sequence[str], widths: Sequence[int]) -> list[str]:
        gaps = [" " * (width - _width(word)) for word, width in zip(row, widths, strict=True)]
        return [
            word + gap if i < self.left else gap + word for i, (word, gap) in enumerate(zip(row, gaps, strict=True))
        ]


COLUMNS: dict[str, Callable[[Row], str]] = {
    "95 % interval": lambda row: span(row.interval),
    "gain over linear": lambda row: gain(row),
    "gap closed": lambda row: gap(row),
    "parameters": lambda row: f"{row.parameters:,}",
    "train time": lambda row: duration(row.train_seconds),
    "seeds": lambda row: str(len(row.records)),
}


def summary_cells(rows: Sequence[Row]) -> Cells:
    """The rows of one encoder and data set as words, as every rendering shows them."""
    header = ["probe", rows[0].metric, *COLUMNS]
    body = [[mark(row), percent(row.value), *(show(row) for show in COLUMNS.values())] for row in rows]
    return Cells(header, body)


def summary_text(rows: Sequence[Row], shape: Shape = "table") -> str:
    """All encoders and data sets, one table each, with the legend under the last."""
    return document([(title(cell), summary_cells(cell)) for cell in by_cell(rows)], legend(rows), shape)


def summary_markdown(rows: Sequence[Row]) -> str:
    """As `summary_text`, in Markdown."""
    return summary_text(rows, "markdown")


def document(tables: Sequence[tuple[str, Cells]], notes: Sequence[str], shape: Shape) -> str:
    """Titled tables with notes under the last; in LaTeX, titles and notes are comments, to be worded as captions."""
    frame, end = {"table": ("{}\n", "\n"), "markdown": ("**{}**\n\n", "  \n"), "latex": ("% {}\n", "\n")}[shape]
    lines = [f"% {note}" if shape == "latex" else note for note in notes]
    blocks = [frame.format(words) + cells.shaped(shape) for words, cells in tables]
    return "\n\n".join(filter(None, [*blocks, end.join(lines)]))


def flat_text(rows: Sequence[Mapping[str, Any]], form: Format) -> str:
    """Flat rows of the same columns in any format; for the eye (all but CSV and JSON), what is too wide is left out."""
    if form == "json":
        return json.dumps(rows, indent=1)
    if form == "csv":
        held = io.StringIO()
        writer = csv.DictWriter(held, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _exact(value) for key, value in row.items()} for row in rows)
        return held.getvalue().rstrip("\n")
    shown = [key for key in rows[0] if key not in ("config", "machine", "date", "recorded", "key")] if rows else []
    return Cells(shown, [[_rounded(row[key]) for key in shown] for row in rows], left=3).shaped(form)


def by_cell(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows cut by encoder and data set, in their order."""
    return [list(cell) for _, cell in groupby(rows, key=lambda r: r.cell)]


def title(cell: Sequence[Row]) -> str:
    """What a table is about: "tiny on scenes: mAP in %, 95 % intervals over 300 held-out clips"."""
    clips = sorted({row.estimate.clips for row in cell if row.estimate})
    over = f", 95 % intervals over {' or '.join(map(str, clips))} held-out clips" if clips else ""
    subject = f" ({cell[0].subject})" if cell[0].subject else ""
    return f"{cell[0].encoder} on {cell[0].dataset}{subject}: {cell[0].metric} in %{over}"


def legend(rows: Sequence[Row]) -> list[str]:
    """What the marks mean, and where each recorded row comes from."""
    lines = []
    if any(row.winner for row in rows):
        lines.append(f"{WINNER} best probe of the frozen encoder")
    notes = {f"{RECORDED} {row.encoder}, {row.dataset}, {row.label}: {origin(row)}" for row in rows if row.recorded}
    return [*lines, *sorted(notes)]


def origin(row: Row) -> str:
    """Where a recorded row comes from: its sentence, date, machine and cost."""
    record = row.records[0]
    cost = f"{duration(row.train_seconds)} per seed" if len(row.records) > 1 else duration(row.train_seconds)
    return "; ".join(part for part in (str(row.recorded), record.date[:10], record.machine, cost) if part)


def mark(row: Row) -> str:
    """The probe's label with its marks."""
    return row.label + (f" {WINNER}" if row.winner else "") + (f" {RECORDED}" if row.recorded else "")


def gain(row: Row) -> str:
    """Gain over the linear probe in points, with its interval: "+7.1 [6.0, 8.2]"."""
    if row.gain is None:
        return ABSENT
    ends = "" if math.isnan(row.gain.low) else f" [{signed(row.gain.low)}, {signed(row.gain.high)}]"
    return f"{signed(row.gain.value)}{ends}"


def gap(row: Row) -> str:
    """Share of the gap to fine-tuning closed, with its interval: "63 % [55, 72]"."""
    if (row.finetuned or row.probe == LINEAR) and row.gap is None:
        return "reference" if row.finetuned else ABSENT
    if row.gap is None or math.isnan(row.gap.value):
        return ABSENT
    ends = "" if math.isnan(row.gap.low) else f" [{_whole(row.gap.low)}, {_whole(row.gap.high)}]"
    return f"{_whole(row.gap.value)} %{ends}"


def percent(value: float) -> str:
    """A fraction in percentage points, one decimal."""
    return f"{100 * value:.1f}"


def span(interval: Interval | None) -> str:
    """Both ends in percentage points, or a dash."""
    return ABSENT if interval is None else f"{percent(interval.low)} – {percent(interval.high)}"


def duration(seconds: float) -> str:
    """Seconds as one reads them.

    >>> [duration(s) for s in (0.34, 48, 190, 8000)]
    ['0.3 s', '48 s', '3 min 10 s', '2 h 13 min']
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def signed(value: float) -> str:
    """A difference of fractions in points, with its sign: "+7.1"."""
    return f"{100 * value:+.1f}".replace("-", "−")


def _whole(value: float) -> str:
    return f"{round(100 * value)}".replace("-", "−")


def _exact(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value


def _rounded(value: Any) -> str:
    if value is None:
        return ABSENT
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _width(word: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in word)
