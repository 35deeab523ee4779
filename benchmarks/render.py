"""Rendering of sections as Markdown, and the command line that all benchmark programs share."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Sequence
from functools import singledispatch
from typing import Any, get_type_hints

from measure import machine
from rows import Bytes, Figure, Percent, Power, Seconds, Section, Spread, Target

WIDTH = 118


def command(sections: Callable[[bool], Sequence[Section]], doc: str, arguments: Sequence[str] | None) -> None:
    """Run one benchmark program and print its sections.

    Parameters
    ----------
    sections : function of bool. It measures and returns the sections; its argument is True for tiny sizes.
    doc : str. The description for `--help`.
    arguments : sequence of str or None. The command line; None for `sys.argv`.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="tiny sizes, to check that it runs")
    options = parser.parse_args(arguments)
    print(machine(), *(section(s) for s in sections(options.small)), sep="\n\n")


def section(content: Section) -> str:
    """Render one section: title, comparison, tables, figure, targets, and what limits the values."""
    parts = [f"## {content.title}", paragraphs(content.compared), *(table(rows) for rows in content.tables)]
    parts += [figure(content.figure)] if content.figure else []
    parts += [targets(content.targets)] if content.targets else []
    return "\n\n".join([*parts, paragraphs(f"**What limits it.** {content.bounds}")])


def paragraphs(text: str) -> str:
    """Wrap every paragraph of a text to the width of the page."""
    return "\n\n".join(textwrap.fill(part, WIDTH, break_on_hyphens=False) for part in text.split("\n\n"))


def table(rows: Sequence[Any]) -> str:
    """Render rows of one dataclass; the annotations of its fields name the columns."""
    columns = {name: hint.__metadata__[0] for name, hint in get_type_hints(type(rows[0]), include_extras=True).items()}
    lines = [[*columns.values()], ["---"] * len(columns)]
    lines += [[cell(getattr(row, name)) for name in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def targets(rows: Sequence[Target]) -> str:
    """Render the targets and whether each is reached."""
    verdict = {True: "reached", False: "**missed**", None: "not measured"}
    lines = ["| target on two cores | wanted | measured | |", "|---|---|---|---|"]
    for t in rows:
        wanted = f"{'at most' if t.at_most else 'at least'} {t.wanted:g}"
        lines.append(f"| {t.what} | {wanted} | {cell(t.measured)} | {verdict[t.reached]} |")
    return "\n".join(lines)


def figure(drawing: Figure) -> str:
    """Render a link to the drawing, relative to docs/."""
    return f"![{drawing.alt}](assets/{drawing.name})"


@singledispatch
def cell(value: object) -> str:
    """Render one value of a table with its unit."""
    return str(value)


@cell.register
def _(value: None) -> str:  # noqa: ARG001
    return "not measured"


@cell.register
def _(value: int) -> str:
    return f"{value:,}"


@cell.register
def _(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


@cell.register
def _(value: Spread) -> str:
    return f"{value.median:.2f} ({value.low:.2f} .. {value.high:.2f})"


@cell.register
def _(value: Percent) -> str:
    return f"{100 * value:.0f} %"


@cell.register
def _(value: Power) -> str:
    return f"{value:.2f}"


@cell.register
def _(value: Seconds) -> str:
    return f"{value:.3g} s" if value >= 0.1 else f"{1000 * value:.3g} ms"


@cell.register
def _(value: Bytes) -> str:
    mebi = value / 2**20
    return f"{mebi:,.0f} MiB" if mebi >= 10 else f"{mebi:.1f} MiB"
