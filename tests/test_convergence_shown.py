"""Scores that have not converged in tables, comparisons, rankings and the report."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from helpers_html import parse_page
from helpers_records import LabelledClips, add_scenes, add_trainings
from otoscope import compare, rank, write_report
from otoscope.cli import main
from otoscope.report import headline
from otoscope.report.convergence import Convergence, caveat
from otoscope.report.published import comparison
from otoscope.report.rows import summarise
from otoscope.report.text.rankings import rankings_text
from otoscope.report.text.summary import summary_text
from otoscope.report.values import record_values, row_values
from otoscope.results import Record, Store
from otoscope.results.convergence import HIGHEST_RATE, IMPROVING

CAVEAT = f"linear has not converged (1 of 2 seeds: {IMPROVING}; {HIGHEST_RATE})"
NOTE = f"‡ not converged, {IMPROVING}: tiny, scenes, linear (1 of 2 seeds). Train longer (--epochs)."


def change(store: Store, probe: str, seed: int, reasons: tuple[str, ...] | None, **labels: str) -> None:
    """Give the record of one training other reasons."""
    for record in list(store):
        if (record.probe, record.seed) == (probe, seed) and all(getattr(record, k) == v for k, v in labels.items()):
            predictions = store.predictions(record)
            store.remove(record)
            store.add(replace(record, not_converged=reasons), predictions)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two seeds of `linear`, which have not converged, and of `mhca` and `protobin`, which have."""
    store = Store(tmp_path / "results")
    for probe, skill in (("linear", 0.6), ("mhca", 1.2), ("protobin", 1.9)):
        add_scenes(store, probe, skill)
    change(store, "linear", 0, (IMPROVING, HIGHEST_RATE))
    change(store, "linear", 1, (HIGHEST_RATE,))
    return store


@pytest.fixture
def rankings_store(tmp_path: Path) -> Store:
    """Three encoders on two data sets; `linear` on tiny has not converged on scenes."""
    store = Store(tmp_path / "results")
    for number, dataset in enumerate(("scenes", "birds")):
        clips = LabelledClips.random(dataset, seed=number)
        for noise_seed, (encoder, skill) in enumerate((("whisper", 2.4), ("tiny", 1.2), ("random", 0.2))):
            skills = {"linear": skill - 0.3, "mean": skill - 0.5, "protobin": 2.6 - skill}
            add_trainings(store, clips, encoder, skills, noise_seed=noise_seed)
    for seed in range(2):
        change(store, "linear", seed, (IMPROVING,), encoder="tiny", dataset="scenes")
    return store


# Records


def test_a_record_keeps_its_reasons_and_an_older_one_says_nothing(store: Store) -> None:
    assert {r.not_converged for r in Store(store.path)} == {(), (HIGHEST_RATE,), (IMPROVING, HIGHEST_RATE)}
    record = next(r for r in store if r.seed == 0 and r.probe == "linear")
    data = json.loads(json.dumps(record.to_json()))
    assert data["not_converged"] == [IMPROVING, HIGHEST_RATE]
    assert Record.from_json(data) == record
    del data["not_converged"]
    assert Record.from_json(data).not_converged is None
    assert Record.from_json(data).key == record.key


def test_values_say_why_or_that_nothing_is_known(store: Store) -> None:
    change(store, "mhca", 0, None)
    values = {(row["probe"], row["seed"]): row["not_converged"] for row in record_values(store)}
    assert values["linear", 0] == f"{IMPROVING}; {HIGHEST_RATE}"
    assert (values["mhca", 0], values["protobin", 0]) == ("unknown", "")
    rows = {row.probe: row_values(row)["not_converged"] for row in summarise(store)}
    assert rows == {"linear": f"1 of 2 seeds: {IMPROVING}; {HIGHEST_RATE}", "mhca": "unknown", "protobin": ""}


# Tables


@pytest.mark.parametrize(("text_format", "mark"), [("table", "‡"), ("markdown", "‡"), ("latex", r"$\ddagger$")])
def test_the_score_is_marked_and_a_footnote_gives_the_reasons(store: Store, text_format: str, mark: str) -> None:
    rows = summarise(store)
    text = summary_text(rows, text_format)  # type: ignore[arg-type]
    body = text[text.index("gain over linear") :].splitlines()[1:]
    lines = {row.probe: next(line for line in body if row.probe in line) for row in rows}
    score = f"{100 * rows[0].value:.1f}"
    assert [probe for probe, line in lines.items() if mark in line] == ["linear"]
    assert f"{score}{mark}" in lines["linear"]
    assert f"gain over linear{mark}" in text
    assert NOTE in text
    if text_format == "table":
        assert len({line.index(".") for line in lines.values()}) == 1


def test_without_a_reason_there_is_no_mark(store: Store) -> None:
    for seed in range(2):
        change(store, "linear", seed, ())
    assert "‡" not in summary_text(summarise(store))
    assert "converged" not in compare(store, "protobin", "linear", resamples=100).text()


def test_every_format_of_the_command_line_contains_the_reasons(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*options: str) -> str:
        assert main(["results", "--out", str(store.path.parent), *options]) == 0
        return capsys.readouterr().out

    assert HIGHEST_RATE in next(line for line in run().splitlines() if "linear" in line)
    rows = list(csv.DictReader(io.StringIO(run("--summary", "--format", "csv"))))
    assert rows[0]["not_converged"].startswith("1 of 2 seeds")
    assert json.loads(run("--format", "json"))[0].keys() >= {"not_converged"}
    assert NOTE in run("--summary")


def test_values_beside_published_ones_are_marked(store: Store) -> None:
    lines = comparison.compare_with_published([row for row in summarise(store) if row.probe == "linear"])
    text = comparison.comparison_text(lines, "table")
    assert f"{100 * lines[0].row.value:.1f}‡" in text  # type: ignore[union-attr]
    assert NOTE in text
    assert comparison.flat(lines[0])["not_converged"].startswith("1 of 2 seeds")


# Comparisons


def test_a_side_that_has_not_converged_is_not_beaten(store: Store) -> None:
    (verdict,) = compare(store, "protobin", "linear", resamples=200).verdicts
    sentence = verdict.sentence()
    assert verdict.winner is verdict.a
    assert "beats" not in sentence
    assert "protobin is above linear by" in sentence
    assert f", but {CAVEAT}: this is a statement about its training, not about the encoder; train longer" in sentence
    (verdict,) = compare(store, "protobin", "mhca", resamples=200).verdicts
    assert "protobin beats mhca by" in verdict.sentence()


def test_the_winner_has_to_converge_as_well(store: Store) -> None:
    change(store, "protobin", 0, (IMPROVING,))
    sentence = compare(store, "linear", "protobin", resamples=200).verdicts[0].sentence()
    assert "protobin is above linear" in sentence
    assert (
        f"but protobin and linear have not converged (protobin: 1 of 2 seeds: {IMPROVING}; linear: 1 of 2 seeds: "
        f"{IMPROVING}; {HIGHEST_RATE}): this is a statement about their training, not about the encoder" in sentence
    )
    assert sentence.count("train longer") == 1


def test_the_counts_say_how_many_pairs_have_not_converged(store: Store) -> None:
    for probe, skill in (("linear", 0.6), ("protobin", 1.9)):
        add_scenes(store, probe, skill, encoder="other")
    text = compare(store, "protobin", "linear", resamples=200).text()
    assert "protobin wins 2 and linear wins 0" in text
    assert text.endswith("In 1 of these pairs, a side has not converged.")


def test_records_without_a_statement_are_named(store: Store) -> None:
    change(store, "mhca", 1, None)
    text = compare(store, "protobin", "mhca", resamples=200).text()
    assert text.endswith("The records of mhca do not say whether the training has converged.")
    assert "protobin beats mhca" in text


# Rankings


def test_the_ranking_marks_values_and_orders_and_explains_them(rankings_store: Store) -> None:
    rankings = rank(rankings_store, resamples=300)
    text = rankings_text(rankings, "table")
    note = f"‡ not converged, {IMPROVING}: linear on tiny. Train longer (--epochs)."
    assert text.count(note) == 1
    assert "Under linear: whisper > tiny‡ > random" in text
    (value,) = [s.value for (p, e), s in rankings.rankings[1].standings.items() if (p, e) == ("linear", "tiny")]
    assert f"{100 * value:.1f}‡ (2)" in text
    assert f"‡ linear: not converged on 1 pair (tiny on scenes: {IMPROVING}); its wins, defeats and ranks" in text
    assert any(line.startswith("linear‡") and line.endswith(("mean", "–", "protobin")) for line in text.splitlines())


def test_a_change_of_the_ranking_rests_on_converged_trainings_where_there_are_any(rankings_store: Store) -> None:
    def find_verdict() -> str:
        text = rankings_text(rank(rankings_store), "table")
        return next(line for line in text.splitlines() if "The probe changes the ranking: whisper" in line)

    for seed in range(2):
        change(rankings_store, "linear", seed, (), encoder="tiny")
    cited = re.findall(r"whisper beats tiny under (\w+)", find_verdict())[0]
    for seed in range(2):
        change(rankings_store, cited, seed, (IMPROVING,))
    other = {"linear": "mean", "mean": "linear"}[cited]
    assert f"whisper beats tiny under {other}" in find_verdict()
    for probe in ("linear", "mean", "protobin"):
        for seed in range(2):
            change(rankings_store, probe, seed, (IMPROVING,))
    assert "beats" not in find_verdict()
    assert "this is a statement about their training, not about the encoders" in find_verdict()


def test_rows_of_rankings_contain_the_reasons(rankings_store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", "--out", str(rankings_store.path.parent), "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    marked = [(row["kind"], row["dataset"], row["probe"], row["encoder"]) for row in rows if row["not_converged"]]
    assert marked == [("standing", "scenes", "linear", "tiny")]


# Claims and the report


def test_the_claim_and_its_reasons_say_that_a_side_has_not_converged(store: Store) -> None:
    rows = summarise(store)
    assert headline.headline_of(rows).endswith(f"a linear probe {100 * rows[0].value:.1f} (not converged)")
    assert f"{CAVEAT}: a comparison with it is a statement about its training" in " ".join(headline.reasons(rows, []))
    change(store, "protobin", 0, (IMPROVING,))
    rows = summarise(store)
    assert f"{100 * rows[-1].value:.1f} (not converged) mAP" in headline.headline_of(rows)
    assert "protobin has not converged" in " ".join(headline.reasons(rows, []))


def test_the_report_marks_scores_with_a_tooltip_and_a_footnote(store: Store, tmp_path: Path) -> None:
    path = write_report(store.path, tmp_path / "report.html")
    page, text = path.read_text(encoding="utf-8"), " ".join(parse_page(path).text)
    value = f"{100 * summarise(store)[0].value:.1f}"
    tooltip = html.escape(f"not converged: 1 of 2 seeds: {IMPROVING}; {HIGHEST_RATE}")
    assert f'<td title="{tooltip}">{value}‡</td>' in page
    assert f"{tooltip}</title>" in page
    assert page.count(f"{value}‡") >= 3
    assert NOTE in text
    assert f"{CAVEAT}: the gain is a statement about its training" in text


def test_the_report_marks_rankings(rankings_store: Store, tmp_path: Path) -> None:
    page = write_report(rankings_store.path, tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count(f"not converged: {IMPROVING}</title>") == 2  # a bar and a dot
    assert page.count(">linear‡<") >= 2
    assert "its wins, defeats and ranks there are statements about its training" in page


def test_a_caveat_needs_a_reason() -> None:
    assert caveat([("a", Convergence()), ("b", Convergence(unknown=1))], "the encoder") == ""


# Controls


@pytest.fixture
def control_store(tmp_path: Path) -> Store:
    """`protobin` and `linear` on tiny and on its control, where `protobin` has not converged."""
    store = Store(tmp_path / "results")
    for probe, skill in (("linear", 0.6), ("protobin", 1.9)):
        add_scenes(store, probe, skill)
        control = {"encoder": "tiny-random", "control_of": "tiny", "protocol": {"control": True}}
        add_scenes(store, probe, skill / 2, **control)
    for seed in range(2):
        change(store, "protobin", seed, (IMPROVING,), encoder="tiny-random")
    return store


def test_a_difference_from_a_control_that_has_not_converged_is_marked(control_store: Store) -> None:
    rows = {row.probe: row for row in summarise(control_store) if row.encoder == "tiny"}
    text = summary_text(list(rows.values()))
    (line,) = [line for line in text.splitlines() if line.startswith("protobin ")]
    assert line.count("‡") == 1
    assert "]‡" in line
    assert "‡ where the probe has not converged on random weights" in text
    assert "‡" not in summary_text([rows["linear"]])


def test_sentences_about_a_control_say_that_it_has_not_converged(control_store: Store) -> None:
    (verdict,) = compare(control_store, "protobin", "linear", resamples=200).verdicts
    assert "protobin beats linear" in verdict.sentence()
    clause = f"protobin on random weights has not converged ({IMPROVING}): this is a statement about its training"
    assert f"), but {clause}" in verdict.beyond_sentence()
    rows = summarise(control_store)
    tiny = [row for row in rows if row.encoder == "tiny"]
    lead = " ".join(headline.reasons(tiny, [row for row in rows if row not in tiny]))
    assert f"protobin on tiny-random has not converged ({IMPROVING}): a comparison with it" in lead
