"""Text from elsewhere, such as labels, in Markdown, LaTeX and CSV, where it must not become syntax."""

from __future__ import annotations

import re

from otoscope.printable import printable
from otoscope.report.text.numbers import ABSENT

WINNER, RECORDED, NOT_CONVERGED, BEST_LAYER = "★", "†", "‡", "◆"
_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "`": r"\textasciigrave{}"}
_LATEX |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
_LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
_LATEX |= {
    WINNER: r"$\star$",
    RECORDED: r"$\dagger$",
    BEST_LAYER: r"$\diamond$",
    NOT_CONVERGED: r"$\ddagger$",
    ABSENT: "--",
    "−": "$-$",
    "±": r"$\pm$",
    "…": r"\dots{}",
    "τ": r"$\tau$",
}
_CODE = re.compile(r"(`[^`]+`)")
_MARKDOWN = re.compile(
    r"[\\*`|]"  # escapes, emphasis, code, cells
    r"|(?<!\w)_|_(?!\w)"  # emphasis, but not within a name
    r"|~(?=~)|(?<=~)~"  # strikethrough
    r"|<(?=[A-Za-z/!?])|&(?=#?\w+;)"  # markup and entities
    r"|\](?=[\[(:])"  # links
)
_BLOCK, _NUMBER = re.compile(r"^(\s*)([#>+=-])"), re.compile(r"^(\s*\d+)([.)])")
"""What starts a heading, a quotation or a list, and a numbered list, at the beginning of a line."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def markdown(text: str) -> str:
    r"""Escape text for Markdown as GitHub reads it. Code between backticks stays code.

    Examples
    --------
    >>> print(markdown("a|b *c* `d_e` <img> norm_x"))
    a\|b \*c\* `d_e` \<img> norm_x
    """
    parts = _CODE.split(printable(text))
    parts[::2] = [_MARKDOWN.sub(_backslash, part) for part in parts[::2]]
    parts[1::2] = [code.replace("|", r"\|") for code in parts[1::2]]
    return "".join(parts)


def markdown_line(text: str) -> str:
    r"""As `markdown`, for text at the beginning of a line.

    Examples
    --------
    >>> print(markdown_line("# a"))
    \# a
    """
    return _NUMBER.sub(r"\1\\\2", _BLOCK.sub(r"\1\\\2", markdown(text)))


def latex(text: str) -> str:
    r"""Escape text for LaTeX.

    Examples
    --------
    >>> print(latex(r"50 % \input{x} a--b"))
    50 \% \textbackslash{}input\{x\} a-{}-b
    """
    return "".join(_LATEX.get(sign, sign) for sign in printable(text).replace("--", "-\0-")).replace("\0", "{}")


def latex_row(cells: list[str]) -> str:
    r"""Write one row of a table; a row does not begin with a sign that the row before would take for an option.

    Examples
    --------
    >>> print(latex_row(["[x]", "1"]))
    {}[x] & 1 \\
    """
    row = " & ".join(latex(cell) for cell in cells)
    return ("{}" if row.startswith(("[", "*", "(")) else "") + row + r" \\"


def latex_comment(text: str) -> str:
    """Write text as one line of comment."""
    return f"% {printable(text)}"


def csv_value(value: object) -> object:
    """A value of CSV that a spreadsheet does not take for a formula: such a text gets an apostrophe.

    Examples
    --------
    >>> csv_value("=1+1"), csv_value(-0.5), csv_value("linear")
    ("'=1+1", -0.5, 'linear')
    """
    if not isinstance(value, str):
        return value
    text = printable(value, keep="\n\t")
    return f"'{text}" if value.lstrip(" \n").startswith(_FORMULA) else text


def _backslash(found: re.Match[str]) -> str:
    return f"\\{found[0]}"
