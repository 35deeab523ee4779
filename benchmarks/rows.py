"""What a benchmark program returns: sections with tables of typed rows, targets, and the reasons in words.

A row is a dataclass; each of its fields is annotated with its type, which tells the unit, and the title of its column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any


class Seconds(float):
    """A time."""


class Bytes(int):
    """An amount of memory."""


class Power(float):
    """An exponent."""


class Percent(float):
    """A share, 1.0 for the whole."""


@dataclass(frozen=True)
class Spread:
    """A ratio taken in several rounds of one run: median, lowest, highest."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Faster:
    """Two ways of doing one thing, in turn within one run."""

    what: Annotated[str, "what"]
    faster: Annotated[Spread, "times faster: median (spread)"]
    ours: Annotated[Seconds, "this library"]
    theirs: Annotated[Seconds, "the other way"]
    rounds: Annotated[int, "rounds"]


@dataclass(frozen=True)
class Target:
    """A figure to reach, `wanted` or more (or, `at_most`, less); `found` None where it could not be measured."""

    what: str
    wanted: float
    found: float | None
    at_most: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether it is; None where nothing was found."""
        if self.found is None:
            return None
        return self.found <= self.wanted if self.at_most else self.found >= self.wanted


@dataclass(frozen=True)
class Figure:
    """A drawing in docs/assets: file name, what it shows, its SVG."""

    name: str
    alt: str
    svg: str


@dataclass(frozen=True)
class Section:
    """One subject: what is compared and why, tables (each of rows of one kind), targets, what bounds the figures."""

    title: str
    compared: str
    tables: Sequence[Sequence[Any]]
    bounds: str
    targets: Sequence[Target] = ()
    figure: Figure | None = None
