"""Published figures: what ships, what belongs together, and what is said where nothing does."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from otoscope.report.published import comparison
from otoscope.report.published.comparison import Line, beside, canonical, figures, flat, text
from otoscope.report.table import Row
from otoscope.report.text.numbers import ABSENT
from planted import scene_record

UNMUTE = "unmute (Rauch et al. 2026, arXiv 2509.24901)"


def row(encoder: str, probe: str, dataset: str, *values: float, **changes: Any) -> Row:
    return Row(
        tuple(replace(scene_record(probe, i, v, encoder), dataset=dataset, **changes) for i, v in enumerate(values))
    )


def test_the_figures_ship_as_fractions_without_repeats() -> None:
    assert len(figures()) == 184
    assert all(0 < f.value < 1 and f.metric in ("mAP", "accuracy") for f in figures())
    cells = [(f.paper, f.encoder, f.probe, f.dataset, f.metric) for f in figures()]
    assert len(set(cells)) == len(cells)
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    assert "**/*.csv" in project["tool"]["setuptools"]["package-data"]["otoscope"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("audio_mae", "A-MAE"),
        ("worstchan/EAT-base_epoch30_pretrain", "EAT"),
        ("mispeech/dasheng-base", "Dasheng"),
        ("beats", "BEATs"),
        ("audioset-20k", "as20k"),
        ("speech_commands_v2", "sc2"),
        ("URBAN-SED", "urban-sed"),
    ],
)
def test_spellings_and_hub_ids_are_one_name(one: str, other: str) -> None:
    assert canonical(one) == canonical(other)
    assert any(canonical(other) in (canonical(f.encoder), canonical(f.dataset)) for f in figures())


@pytest.mark.parametrize("other", ["EAT-random", "EAT+", "EAT-layers=3", "tiny"])
def test_another_encoder_is_never_taken_for_a_published_one(other: str) -> None:
    assert canonical(other) not in {canonical(f.encoder) for f in figures()}


def test_a_row_stands_beside_the_figure_of_its_cell_and_above_the_other_encoders() -> None:
    lines = beside([row("audiomae", "linear", "AudioSet-20k", 0.09, 0.11)])
    first, others = lines[0], lines[1:]
    assert first.figure == comparison.Figure(UNMUTE, "A-MAE", "linear", "as20k", "mAP", 0.0836)
    assert first.difference == pytest.approx(0.10 - 0.0836)
    same = [f for f in figures() if (f.probe, f.dataset, f.metric) == ("linear", "as20k", "mAP")]
    assert len(others) == len(same) - 1 >= 5
    assert [line.row for line in others] == [None] * len(others)
    values = [flat(line)["published"] for line in others]
    assert values == sorted(values, reverse=True)
    assert flat(first)["value"] == pytest.approx(0.10)
    assert (flat(first)["seeds"], flat(first)["published_encoder"], flat(first)["paper"]) == (2, "A-MAE", UNMUTE)
    assert flat(others[0])["value"] is None


def test_figures_in_another_metric_are_not_set_beside() -> None:
    wrong = row("EAT", "linear", "as20k", 0.5, metric="accuracy")
    lines = beside([wrong])
    assert lines == [Line(wrong, None)]
    assert "is published in mAP, yours is in accuracy" in text(lines, "table")


def test_every_paper_that_prints_a_cell_gets_a_line() -> None:
    found = [line for line in beside([row("EAT", "linear", "as20k", 0.2)]) if line.row]
    papers = {f.paper for f in figures() if (f.encoder, f.probe, f.dataset) == ("EAT", "linear", "as20k")}
    assert len(papers) == len(found) == 2
    assert {line.figure.paper for line in found if line.figure} == papers


def test_filters_cut_both_sides() -> None:
    rows = [row("eat", "linear", "as20k", 0.2), row("eat", "protobin", "as20k", 0.3)]
    lines = beside(rows, lambda encoder, _, probe: (encoder, probe) == ("eat", "protobin"))
    assert {(line.of.encoder.lower(), line.of.probe) for line in lines} == {("eat", "protobin")}
    assert all(line.row is rows[1] for line in lines)


@pytest.mark.parametrize(
    ("mine", "words"),
    [
        (("tiny", "linear", "scenes"), "nothing is published for data set scenes; figures ship for as20k"),
        (("EAT", "wsum", "as20k"), "nothing is published for wsum on as20k; there is linear"),
        (("tiny", "linear", "as20k"), "nothing is published for tiny with linear on as20k; there is A-MAE"),
    ],
)
def test_what_has_no_counterpart_is_said_with_what_there_is(mine: tuple[str, str, str], words: str) -> None:
    shown = text(beside([row(*mine, 0.2)]), "table")
    assert words in shown
    assert "difference:" not in shown


def test_the_table_holds_points_differences_and_sources() -> None:
    shown = text(beside([row("A-MAE", "linear", "as20k", 0.0736), row("tiny", "linear", "scenes", 0.2)]), "table")
    lines = shown.splitlines()
    assert lines[0] == "as20k: mAP in %, yours beside the published"
    assert lines[3].split() == ["A-MAE", "linear", "7.4", "–", "8.4", "−1.0", "unmute"]
    assert "scenes: mAP in %, yours beside the published" in lines
    assert "unmute: Rauch et al. 2026, arXiv 2509.24901" in lines
    latex = text(beside([row("A-MAE", "linear", "as20k", 0.0736)]), "latex")
    assert r"A-MAE & linear & 7.4 & -- & 8.4 & $-$1.0 & unmute \\" in latex
    assert ABSENT not in latex
