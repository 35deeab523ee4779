"""The base class of sections of the report, and the registry of sections."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from otoscope.registry import Registry
from otoscope.report.layers import LayerProfile
from otoscope.report.rankings import Rankings
from otoscope.report.rows import Row
from otoscope.results import Store


@dataclass(frozen=True)
class ReportData:
    """The data from which every section is written.

    Parameters
    ----------
    store : Store. The records and their predictions.
    rows : tuple of Row. One row per encoder, data set and probe, in the order of `pairs`.
    pairs : tuple of tuples of Row. The same rows, grouped by encoder and data set; controls come last.
    rankings : Rankings. The rankings of encoders under each probe, and the comparison of probes over all pairs.
    profiles : tuple of LayerProfile. The layer profiles. The rows of their inner layers are not among `rows`, see
        `without_inner_layers`.
    """

    store: Store
    rows: tuple[Row, ...]
    pairs: tuple[tuple[Row, ...], ...]
    rankings: Rankings
    profiles: tuple[LayerProfile, ...] = ()

    @property
    def path(self) -> Path:
        """The folder of the store."""
        return self.store.path


class Section(ABC):
    """One section of the report: a heading, and below it text, tables and figures.

    Attributes
    ----------
    name : str. The registered name.
    title : str. The heading; an empty title gives a section without a heading.
    order : int. Sections appear in ascending order. The built-in sections have the orders 10, 20, ...; the default, 75,
        is below all figures.

    Examples
    --------
    >>> from otoscope.report.html import sections
    >>> [section.name for section in sections.ordered()][:3]
    ['tables', 'bars', 'layers']
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    order: ClassVar[int] = 75

    @abstractmethod
    def body(self, data: ReportData) -> str | None:
        """Write the section.

        Parameters
        ----------
        data : ReportData. The results to show.

        Returns
        -------
        str or None. HTML without the heading; None if there is nothing to show. Use
        `otoscope.report.html.svg.escape` for every text that comes from the results.
        """

    def html(self, data: ReportData) -> str:
        """Return the heading and the body, or an empty string where the body is None."""
        body = self.body(data)
        if body is None:
            return ""
        return f"<h2>{self.title}</h2>\n{body}" if self.title else body


registry: Registry[Section] = Registry("section", "otoscope.report.html.sections")
register = registry.register


def ordered() -> list[Section]:
    """Create all registered sections, in the order of the page."""
    sections = [registry.create(name) for name in registry.names()]
    return sorted(sections, key=lambda section: section.order)
