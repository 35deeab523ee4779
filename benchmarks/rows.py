"""The types that a benchmark program returns: sections with tables, targets and explanations.

A row of a table is a dataclass. The annotation of each field gives the type, which decides the unit, and the title of
the column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any


class Seconds(float):
    """A duration."""


class Bytes(int):
    """An amount of memory."""


class Power(float):
    """An exponent."""


class Percent(float):
    """A share; 1.0 is printed as 100 %."""


@dataclass(frozen=True)
class Spread:
    """Median, lowest and highest of a ratio over the rounds of one run."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Faster:
    """The speed of this library relative to another implementation, measured alternately within one run."""

    what: Annotated[str, "what"]
    faster: Annotated[Spread, "times faster: median (spread)"]
    ours: Annotated[Seconds, "this library"]
    theirs: Annotated[Seconds, "the other way"]
    rounds: Annotated[int, "rounds"]


@dataclass(frozen=True)
class Target:
    """A value to reach.

    Parameters
    ----------
    what : str. What is measured.
    wanted : float. The value to reach.
    measured : float or None. The measured value; None where it could not be measured.
    at_most : bool. True if a smaller value is better.
    """

    what: str
    wanted: float
    measured: float | None
    at_most: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None where nothing was measured."""
        if self.measured is None:
            return None
        return self.measured <= self.wanted if self.at_most else self.measured >= self.wanted


@dataclass(frozen=True)
class Figure:
    """A drawing in docs/assets: its file name, its alternative text and its SVG."""

    name: str
    alt: str
    svg: str


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Parameters
    ----------
    title : str. The heading.
    compared : str. What is compared, and how.
    tables : sequence of sequences of dataclasses. Each table has rows of one type.
    bounds : str. What limits the measured values.
    targets : sequence of Target. The values to reach.
    figure : Figure or None. A drawing below the tables.
    """

    title: str
    compared: str
    tables: Sequence[Sequence[Any]]
    bounds: str
    targets: Sequence[Target] = ()
    figure: Figure | None = None
