"""Sections of the report: the built-in ones, and one from a plug-in file."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers_records import LabelledClips, add_trainings
from otoscope.cli import main
from otoscope.registry import DuplicateNameError
from otoscope.report.html import sections
from otoscope.results import Store

PLUGIN = '''
from otoscope.report.html.sections import Section, register
from otoscope.report.html.svg import escape

@register("costs")
class Costs(Section):
    title = "What it costs"
    order = 25

    def body(self, data):
        """One line per probe; None where no probe was trained."""
        rows = [row for row in data.rows if row.parameters]
        return "".join(f"<p>{escape(row.label)}: {row.parameters:,} parameters</p>" for row in rows) or None
'''


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    add_trainings(Store(tmp_path / "results"), LabelledClips.random("ponds"), "alpha", {"linear": 1.0, "mean": 1.5})
    return tmp_path


def headings(runs: Path) -> list[str]:
    page = (runs / "report.html").read_text(encoding="utf-8")
    return [part.partition("</h2>")[0] for part in page.split("<h2>")[1:]]


def test_section_of_a_plugin_appears_in_its_place(runs: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "costs.py"
    plugin.write_text(PLUGIN)
    with sections.registry.isolated():
        assert main(["report", "--out", str(runs), "--plugin", str(plugin)]) == 0
    assert headings(runs)[:3] == ["The comparison", "Probes side by side", "What it costs"]
    assert "<p>linear: 99 parameters</p>" in (runs / "report.html").read_text(encoding="utf-8")


def test_section_without_content_has_no_heading(runs: Path) -> None:
    assert main(["report", "--out", str(runs)]) == 0
    assert "The activation map of one prototype on one clip" not in headings(runs)
    assert "What it costs" not in headings(runs)


def test_names_and_orders_of_built_in_sections_are_unique() -> None:
    orders = [section.order for section in sections.ordered()]
    assert orders == sorted(set(orders))
    with sections.registry.isolated(), pytest.raises(DuplicateNameError, match="registered twice"):
        sections.register("bars")(type("Other", (sections.Section,), {"order": 1, "body": lambda *_: ""}))


def test_a_section_without_an_order_lies_below_the_figures() -> None:
    with sections.registry.isolated():

        @sections.register("note")
        class Note(sections.Section):
            """A paragraph."""

            def body(self, data: sections.ReportData) -> str | None:  # noqa: ARG002
                return "<p>note</p>"

        names = [section.name for section in sections.ordered()]
    assert names[names.index("note") - 1 :][:3] == ["activation", "note", "method"]
