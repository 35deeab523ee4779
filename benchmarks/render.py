"""Sections as Markdown, and the command line that every benchmark program shares."""

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
    """Run one program by itself and print its sections."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="toy sizes, to see that it runs")
    asked = parser.parse_args(arguments)
    print(machine(), *(section(s) for s in sections(asked.small)), sep="\n\n")


def section(shown: Section) -> str:
    """Title, what is compared, tables, figure, targets, what bounds it."""
    parts = [f"## {shown.title}", paragraphs(shown.compared), *(table(rows) for rows in shown.tables)]
    parts += [figure(shown.figure)] if shown.figure else []
    parts += [targets(shown.targets)] if shown.targets else []
    return "\n\n".join([*parts, paragraphs(f"**What bounds it.** {shown.bounds}")])


def paragraphs(text: str) -> str:
    """Words written by hand, filled to the width of the page, paragraph by paragraph."""
    return "\n\n".join(textwrap.fill(part, WIDTH, break_on_hyphens=False) for part in text.split("\n\n"))


def table(rows: Sequence[Any]) -> str:
    """Rows of one dataclass; the annotations of its fields name the columns."""
    columns = {name: hint.__metadata__[0] for name, hint in get_type_hints(type(rows[0]), include_extras=True).items()}
    lines = [[*columns.values()], ["---"] * len(columns)]
    lines += [[cell(getattr(row, name)) for name in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def targets(held: Sequence[Target]) -> str:
    """What was to be reached and whether it was."""
    verdict = {True: "reached", False: "**missed**", None: "not measured"}
    lines = ["| to reach on two cores | wanted | found | |", "|---|---|---|---|"]
    for t in held:
        wanted = f"{'at most' if t.at_most else 'at least'} {t.wanted:g}"
        lines.append(f"| {t.what} | {wanted} | {cell(t.found)} | {verdict[t.reached]} |")
    return "\n".join(lines)


def figure(shown: Figure) -> str:
    """The drawing, as it is found from docs/."""
    return f"![{shown.alt}](assets/{shown.name})"


@singledispatch
def cell(value: object) -> str:
    """A value in a table, with its unit."""
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
