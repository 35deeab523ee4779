"""Text tables: aligned for a terminal, Markdown, LaTeX."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from otoscope.report.text.numbers import ABSENT

TextFormat = Literal["table", "markdown", "latex"]
WINNER, RECORDED = "★", "†"
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
class TextTable:
    """A table of words: `header` [columns], `body` [rows][columns]; the first `left` columns are flush left."""

    header: Sequence[str]
    body: Sequence[Sequence[str]]
    left: int = 1

    def text(self) -> str:
        """Aligned columns under a thin rule.

        >>> print(TextTable(["probe", "mAP"], [["linear", "9.1"], ["protobin", "21.4"]]).text())
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

        >>> print(TextTable(["probe", "mAP"], [["linear", "9.1"]]).markdown())
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

        >>> print(TextTable(["probe", "gain in %"], [["wsum_2", "−0.4"]]).latex())
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

    def render(self, shape: TextFormat) -> str:
        """In one of the shapes for the eye."""
        return {"table": self.text, "markdown": self.markdown, "latex": self.latex}[shape]()

    def _pad(self, row: Sequence[str], widths: Sequence[int]) -> list[str]:
        gaps = [" " * (width - _width(word)) for word, width in zip(row, widths, strict=True)]
        return [
            word + gap if i < self.left else gap + word for i, (word, gap) in enumerate(zip(row, gaps, strict=True))
        ]


def document(tables: Sequence[tuple[str, TextTable]], notes: Sequence[str], shape: TextFormat) -> str:
    """Titled tables with notes under the last; in LaTeX, titles and notes are comments, to be worded as captions."""
    frame, end = {"table": ("{}\n", "\n"), "markdown": ("**{}**\n\n", "  \n"), "latex": ("% {}\n", "\n")}[shape]
    lines = [f"% {note}" if shape == "latex" else note for note in notes]
    blocks = [frame.format(words) + cells.render(shape) for words, cells in tables]
    return "\n\n".join(filter(None, [*blocks, end.join(lines)]))


def _width(word: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in word)
