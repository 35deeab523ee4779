"""The sections of the HTML report. Each section is one file in this folder.

A plug-in subclasses `Section` and registers itself with `register`. It may draw with `otoscope.report.html.svg` and
`legend`.
"""

from otoscope.report.html.sections._legend import legend
from otoscope.report.html.sections.base import ReportData, Section, ordered, register, registry

__all__ = ["ReportData", "Section", "legend", "ordered", "register", "registry"]
