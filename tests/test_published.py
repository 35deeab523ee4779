"""Published values: the shipped table, the values that belong to a row, and notes on missing values."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers_records import scene_record
from otoscope.report.published.comparison import PublishedComparison, compare_with_published, comparison_text, flat
from otoscope.report.published.values import PublishedValue, canonical, published_values
from otoscope.report.rows import Row
from otoscope.report.text.numbers import ABSENT

UNMUTE = "unmute (Rauch et al. 2026, arXiv 2509.24901)"


def row(encoder: str, probe: str, dataset: str, *values: float, **changes: Any) -> Row:
    return Row(
        tuple(replace(scene_record(probe, i, v, encoder), dataset=dataset, **changes) for i, v in enumerate(values))
    )


def test_published_values_are_fractions_without_repetitions() -> None:
    assert len(published_values()) == 184
    assert all(0 < f.value < 1 and f.metric in ("mAP", "accuracy") for f in published_values())
    keys = [(f.paper, f.encoder, f.probe, f.dataset, f.metric) for f in published_values()]
    assert len(set(keys)) == len(keys)
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
def test_spellings_and_hub_ids_are_mapped_to_one_name(one: str, other: str) -> None:
    assert canonical(one) == canonical(other)
    assert any(canonical(other) in (canonical(f.encoder), canonical(f.dataset)) for f in published_values())


@pytest.mark.parametrize("other", ["EAT-random", "EAT+", "EAT-layers=3", "tiny"])
def test_another_encoder_is_not_mistaken_for_a_published_one(other: str) -> None:
    assert canonical(other) not in {canonical(f.encoder) for f in published_values()}


def test_a_row_is_compared_with_its_published_value_before_those_of_other_encoders() -> None:
    lines = compare_with_published([row("audiomae", "linear", "AudioSet-20k", 0.09, 0.11)])
    first, others = lines[0], lines[1:]
    assert first.published == PublishedValue(UNMUTE, "A-MAE", "linear", "as20k", "mAP", 0.0836)
    assert first.difference == pytest.approx(0.10 - 0.0836)
    same = [f for f in published_values() if (f.probe, f.dataset, f.metric) == ("linear", "as20k", "mAP")]
    assert len(others) == len(same) - 1 >= 5
    assert [line.row for line in others] == [None] * len(others)
    values = [flat(line)["published"] for line in others]
    assert values == sorted(values, reverse=True)
    assert flat(first)["value"] == pytest.approx(0.10)
    assert (flat(first)["seeds"], flat(first)["published_encoder"], flat(first)["paper"]) == (2, "A-MAE", UNMUTE)
    assert flat(others[0])["value"] is None


def test_values_in_another_metric_are_not_compared_with_published_ones() -> None:
    wrong = row("EAT", "linear", "as20k", 0.5, metric="accuracy")
    lines = compare_with_published([wrong])
    assert lines == [PublishedComparison(wrong, None)]
    assert "is published in mAP, yours is in accuracy" in comparison_text(lines, "table")


def test_every_paper_that_prints_a_value_gets_a_line() -> None:
    lines = [line for line in compare_with_published([row("EAT", "linear", "as20k", 0.2)]) if line.row]
    papers = {f.paper for f in published_values() if (f.encoder, f.probe, f.dataset) == ("EAT", "linear", "as20k")}
    assert len(papers) == len(lines) == 2
    assert {line.published.paper for line in lines if line.published} == papers


def test_filters_apply_to_rows_and_published_values() -> None:
    rows = [row("eat", "linear", "as20k", 0.2), row("eat", "protobin", "as20k", 0.3)]
    lines = compare_with_published(rows, lambda encoder, _, probe: (encoder, probe) == ("eat", "protobin"))
    assert {(line.named.encoder.lower(), line.named.probe) for line in lines} == {("eat", "protobin")}
    assert all(line.row is rows[1] for line in lines)


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (("tiny", "linear", "scenes"), "nothing is published for data set scenes; there are values for as20k"),
        (("EAT", "wsum", "as20k"), "nothing is published for wsum on as20k; there are values for linear"),
        (("tiny", "linear", "as20k"), "nothing is published for tiny with linear on as20k; there are values for A-MAE"),
    ],
)
def test_a_row_without_a_published_value_gets_a_note_with_the_published_values(
    names: tuple[str, str, str], note: str
) -> None:
    text = comparison_text(compare_with_published([row(*names, 0.2)]), "table")
    assert note in text
    assert "difference:" not in text


def test_the_table_contains_points_differences_and_papers() -> None:
    text = comparison_text(
        compare_with_published([row("A-MAE", "linear", "as20k", 0.0736), row("tiny", "linear", "scenes", 0.2)]), "table"
    )
    lines = text.splitlines()
    assert lines[0] == "as20k: mAP in %, your values and the published ones"
    assert lines[3].split() == ["A-MAE", "linear", "7.4", "–", "8.4", "−1.0", "unmute"]
    assert "scenes: mAP in %, your values and the published ones" in lines
    assert "unmute: Rauch et al. 2026, arXiv 2509.24901" in lines
    latex = comparison_text(compare_with_published([row("A-MAE", "linear", "as20k", 0.0736)]), "latex")
    assert r"A-MAE & linear & 7.4 & -- & 8.4 & $-$1.0 & unmute \\" in latex
    assert ABSENT not in latex
