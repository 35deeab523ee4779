"""Tables of text: aligned for a terminal, Markdown, LaTeX."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from otoscope.printable import printable
from otoscope.report.text.escaping import (
    BEST_LAYER,
    NOT_CONVERGED,
    RECORDED,
    WINNER,
    latex_comment,
    latex_row,
    markdown,
    markdown_line,
)

TextFormat = Literal["table", "markdown", "latex"]
__all__ = ["BEST_LAYER", "NOT_CONVERGED", "RECORDED", "WINNER", "TextFormat", "TextTable", "document"]


@dataclass(frozen=True)
class TextTable:
    """A table of text.

    Parameters
    ----------
    header : the headings of the columns.
    body : the rows, each with one text for every column.
    left_columns : number of columns, from the first, that are aligned to the left; the others are aligned to the right.
    """

    header: Sequence[str]
    body: Sequence[Sequence[str]]
    left_columns: int = 1

    def text(self) -> str:
        """Return the table with aligned columns under a thin rule.

        Examples
        --------
        >>> print(TextTable(["probe", "mAP"], [["linear", "9.1"], ["protobin", "21.4"]]).text())
        probe      mAP
        ──────────────
        linear     9.1
        protobin  21.4
        """
        rows = [[printable(cell) for cell in row] for row in (self.header, *self.body)]
        widths = [max(_width(row[i]) for row in rows) for i in range(len(self.header))]
        lines = ["  ".join(self._pad(row, widths)).rstrip() for row in rows]
        return "\n".join([lines[0], "─" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]])

    def markdown(self) -> str:
        """Return the table in Markdown.

        Examples
        --------
        >>> print(TextTable(["probe", "mAP"], [["linear", "9.1"]]).markdown())
        | probe | mAP |
        |:--|--:|
        | linear | 9.1 |
        """
        rule = "|".join([":--"] * self.left_columns + ["--:"] * (len(self.header) - self.left_columns))
        lines = ["| " + " | ".join(map(markdown, row)) + " |" for row in (self.header, *self.body)]
        return "\n".join([lines[0], f"|{rule}|", *lines[1:]])

    def latex(self) -> str:
        r"""Return the table in LaTeX, for the package booktabs. Apart from names, it is written in ASCII.

        Examples
        --------
        >>> print(TextTable(["probe", "gain in %"], [["wsum_2", "−0.4"]]).latex())
        \begin{tabular}{lr}
        \toprule
        probe & gain in \% \\
        \midrule
        wsum\_2 & $-$0.4 \\
        \bottomrule
        \end{tabular}
        """
        columns = "l" * self.left_columns + "r" * (len(self.header) - self.left_columns)
        head, *lines = [latex_row(list(row)) for row in (self.header, *self.body)]
        top, bottom = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"], [r"\bottomrule", r"\end{tabular}"]
        return "\n".join([*top, head, r"\midrule", *lines, *bottom])

    def render(self, text_format: TextFormat) -> str:
        """Return the table in one of the formats "table", "markdown" and "latex"."""
        return {"table": self.text, "markdown": self.markdown, "latex": self.latex}[text_format]()

    def _pad(self, row: Sequence[str], widths: Sequence[int]) -> list[str]:
        padding = [" " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        return [
            cell + space if i < self.left_columns else space + cell
            for i, (cell, space) in enumerate(zip(row, padding, strict=True))
        ]


_FORMATS: dict[TextFormat, tuple[str, Callable[[str], str], Callable[[str], str], str]] = {
    "table": ("{}\n", printable, printable, "\n"),
    "markdown": ("**{}**\n\n", markdown, markdown_line, "  \n"),
    "latex": ("{}\n", latex_comment, latex_comment, "\n"),
}
"""For each format, the line of a title, how title and note are escaped, and the end of a note."""


def document(tables: Sequence[tuple[str, TextTable]], notes: Sequence[str], text_format: TextFormat) -> str:
    """Join tables with their titles, and write the notes below the last one.

    Parameters
    ----------
    tables : titles and tables.
    notes : sentences.
    text_format : format of the tables; in LaTeX, titles and notes are comments.

    Returns
    -------
    The text, without a line break at the end.
    """
    title_format, escaped, note_of, line_end = _FORMATS[text_format]
    blocks = [title_format.format(escaped(title)) + table.render(text_format) for title, table in tables]
    return "\n\n".join(filter(None, [*blocks, line_end.join(map(note_of, notes))]))


def _width(text: str) -> int:
    """Number of columns that a text takes in a terminal."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in text)
