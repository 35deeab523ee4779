"""Folds in results: every reader shows the mean over the folds of a data set, and each fold where it is asked for."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers_html import parse_page
from helpers_records import LabelledClips, add_folds, add_trainings
from otoscope.cli import main
from otoscope.metrics import stats
from otoscope.report.compare import compare
from otoscope.report.folds import fold_seed, sorted_folds
from otoscope.report.rows import configurations, summarise
from otoscope.report.text import summary
from otoscope.report.text.flat import flat_text
from otoscope.report.values import class_scores, record_values, row_values
from otoscope.results import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "results")
    add_folds(store, "a", 2.5)
    add_folds(store, "b", 1.0)
    return store


def means(store: Store, encoder: str, probe: str) -> dict[int, list[float]]:
    """The scores of each fold, in order of the seeds."""
    scores: dict[int, list[float]] = {}
    for r in store:
        if (r.encoder, r.probe) == (encoder, probe):
            scores.setdefault(r.protocol.fold, []).append(r.value)
    return scores


@pytest.mark.parametrize("digest", [str, lambda _: "one for all"])
def test_a_row_is_the_mean_over_folds_with_an_interval_over_all_clips(
    tmp_path: Path, digest: Callable[[int], str]
) -> None:
    store = Store(tmp_path)
    add_folds(store, "a", 1.5, digest=digest)
    (mean, linear) = summarise(store, resamples=300)
    folds = means(store, "a", "linear")
    assert (linear.label, linear.fold_names, linear.seeds, linear.fold_count) == ("linear", (1, 2, 3), 2, "3")
    assert linear.value == pytest.approx(np.mean(list(folds.values())))
    assert linear.spread == pytest.approx(np.std(np.mean(list(folds.values()), axis=0), ddof=1))
    assert linear.estimate is not None
    assert linear.estimate.clips == 450
    parts = []
    for fold in range(3):
        clips = LabelledClips.random("esc", seed=fold)
        scores = [clips.scores(1.5, fold, seed) for seed in range(2)]
        parts.append(stats.bootstrap(scores, clips.targets, "mAP", resamples=300, seed=fold_seed(fold + 1)))
    assert linear.interval == stats.averaged(parts).interval()
    assert mean.gain is not None
    assert mean.gain.value == pytest.approx(mean.value - linear.value)
    assert mean.gain.low < mean.gain.value < mean.gain.high


def test_each_fold_is_a_row_on_request(store: Store) -> None:
    rows = summarise(store, by_fold=True)
    assert [(row.encoder, row.dataset) for row in rows[::2]] == [
        (encoder, f"esc, fold {fold}") for encoder in "ab" for fold in (1, 2, 3)
    ]
    scores = means(store, "a", "linear")
    linear = {row.fold: row for row in rows if (row.encoder, row.probe) == ("a", "linear")}
    assert {fold: row.value for fold, row in linear.items()} == {
        k: pytest.approx(np.mean(v)) for k, v in scores.items()
    }
    assert all(row.interval and row.estimate and row.estimate.clips == 150 for row in rows)
    assert "a on esc, fold 2: mAP in %, 95 % intervals over 150 held-out clips" in summary.summary_text(rows)


def test_tables_say_that_they_show_the_mean_over_folds(store: Store) -> None:
    text = summary.summary_text(summarise(store))
    assert "a on esc: mAP in %, mean over 3 folds, 95 % intervals over 450 held-out clips" in text
    assert [line.split()[-3:-1] for line in text.splitlines() if "linear" in line and "★" in line] == [["2", "3"]] * 2


def test_a_row_with_a_missing_fold_is_marked_and_compared_with_none(store: Store) -> None:
    for record in list(store):
        if (record.encoder, record.probe, record.protocol.fold) == ("a", "linear", 3):
            store.remove(record)
    rows = {row.probe: row for row in summarise(store) if row.encoder == "a"}
    assert (rows["linear"].fold_count, rows["mean"].fold_count) == ("2 of 3", "3")
    assert rows["mean"].gain is None
    assert not any(row.winner for row in rows.values())
    comparison = compare(store, "linear", "mean")
    assert [verdict.a.encoder for verdict in comparison.verdicts] == ["b"]
    assert "linear folds 1, 2; mean folds 1, 2, 3; measure the missing ones" in comparison.omitted[0]


def test_other_seeds_in_a_fold_give_a_mean_without_a_spread(store: Store) -> None:
    store.remove(next(r for r in store if (r.encoder, r.probe, r.protocol.fold, r.seed) == ("a", "linear", 1, 1)))
    row = next(row for row in summarise(store) if (row.encoder, row.probe) == ("a", "linear"))
    assert (row.seeds, row.spread) == (2, None)
    scores = means(store, "a", "linear")
    assert row.value == pytest.approx(np.mean([np.mean(of_fold) for of_fold in scores.values()]))
    assert row.interval is not None


def test_probes_are_compared_by_their_mean_over_folds(store: Store) -> None:
    (first, _) = compare(store, "linear", "mean").verdicts
    assert first.difference.value == pytest.approx(
        np.mean([r.value * (1 if r.probe == "linear" else -1) for r in store if r.encoder == "a"]) * 2
    )
    assert "the same 450 held-out clips; mean over 3 folds; 2 training seeds each, averaged" in first.sentence()
    by_fold = compare(store, "linear", "mean", by_fold=True)
    assert len(by_fold.verdicts) == 6
    assert by_fold.verdicts[0].sentence().startswith("a on esc, fold 1: ")


def test_results_of_a_changed_data_set_are_other_results(store: Store) -> None:
    add_folds(store, "a", 2.0, digest=lambda fold: f"changed {fold}")
    rows = [row for row in configurations(store) if (row.encoder, row.probe) == ("a", "linear")]
    assert len(rows) > 1
    assert all(row.digests for row in rows)


def test_results_without_a_fold_do_not_join_those_with_folds(store: Store) -> None:
    add_trainings(store, LabelledClips.random("esc"), "a", {"linear": 1.0}, noise_seed=7)
    rows = [row for row in configurations(store) if (row.encoder, row.probe) == ("a", "linear")]
    assert sorted(row.fold_count for row in rows) == ["", "3"]


def test_listed_values_tell_versions_of_a_data_set_apart(store: Store) -> None:
    once = record_values(store)
    assert len({(row["encoder"], row["encoder_digest"]) for row in once}) == len({row["encoder"] for row in once})
    assert "digest" not in flat_text(once, "table")
    add_folds(store, "a", 2.0, digest=lambda fold: f"changed {fold}")
    rows = [row for row in record_values(store) if (row["encoder"], row["probe"]) == ("a", "linear")]
    of_rows = {row["dataset_digest"] for row in rows}
    assert len(of_rows) > 1
    titles = summary.summary_text(summarise(store, resamples=10))
    assert all(f"data set {digest}" in titles for digest in of_rows)
    assert {row_values(row)["dataset_digest"] for row in summarise(store, resamples=10)} >= of_rows
    header = flat_text(rows, "table").partition("\n")[0]
    assert "dataset_digest" in header
    assert "encoder_digest" not in header
    assert json.loads(flat_text(rows, "json"))[0]["dataset_digest"] in of_rows


def test_listed_values_are_means_over_folds_and_name_their_fold_on_request(store: Store) -> None:
    rows = record_values(store)
    assert len(rows) == len(list(store)) / 3
    assert {row["fold"] for row in rows} == {"mean of 3"}
    first = next(r for r in rows if (r["encoder"], r["probe"], r["seed"]) == ("a", "linear", 0))
    scores = means(store, "a", "linear")
    assert first["value"] == first["mAP"] == pytest.approx(np.mean([of_fold[0] for of_fold in scores.values()]))
    assert (first["lr"], first["key"], first["parameters"]) == (None, None, 99)
    by_fold = record_values(store, by_fold=True)
    assert [row["fold"] for row in by_fold[:3]] == ["1", "2", "3"]
    assert len(by_fold) == len(list(store))
    (values,) = {row_values(row)["folds"] for row in summarise(store, resamples=10)}
    assert values == "3"


def test_scores_of_classes_are_means_over_the_folds_that_have_the_class(store: Store) -> None:
    row = next(row for row in configurations(store) if (row.encoder, row.probe) == ("a", "linear"))
    of_folds = [class_scores(store, part) for part in row.folds]
    for name, value in class_scores(store, row).items():
        assert value == pytest.approx(np.mean([scores[name] for scores in of_folds if name in scores]))


@pytest.mark.parametrize(
    ("command", "mean", "each"),
    [
        (["results", "--summary"], "mean over 3 folds", "fold 2"),
        (["results"], "mean of 3", None),
        (["results", "--summary", "--format", "latex"], "mean over 3 folds", "fold 2"),
        (["results", "--summary", "--format", "markdown"], "mean over 3 folds", "fold 2"),
        (["compare", "linear", "mean"], "mean over 3 folds", "fold 2"),
        (["rank"], "esc", "fold 2"),
    ],
)
def test_every_command_shows_means_and_folds_on_request(
    command: list[str], mean: str, each: str | None, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*command, "--out", str(store.path.parent), "--dataset", "esc"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert mean in out
    assert each is None or each not in out
    assert main([*arguments, "--folds"]) == 0
    assert each is None or each in capsys.readouterr().out


@pytest.mark.usefixtures("store")
def test_the_report_shows_means_and_folds_on_request(tmp_path: Path) -> None:
    for option, title in ([], "a on esc: mAP in %, mean over 3 folds"), (["--folds"], "a on esc, fold 3: mAP in %"):
        assert main(["report", "--out", str(tmp_path), *option]) == 0
        text = " ".join(parse_page(tmp_path / "report.html").text)
        assert title in text
    assert "mean over 3 folds" not in text


def test_csv_has_a_column_for_the_fold(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "--out", str(store.path.parent), "--format", "csv", "--folds"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["fold"] for row in rows} == {"1", "2", "3"}


def test_folds_are_sorted_as_numbers() -> None:
    assert sorted_folds([10, 9, 1, None]) == [None, 1, 9, 10]
