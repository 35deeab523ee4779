"""The tables, the sentences and the HTML page that are made from a store of results."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers_html import parse_page
from helpers_records import IDS, SCENE_CLASSES, TARGETS, add_scenes, scene_record, scene_scores
from otoscope import metrics, write_report
from otoscope.metrics import stats
from otoscope.report import headline
from otoscope.report.compare import compare
from otoscope.report.html import figures
from otoscope.report.layers import without_inner_layers
from otoscope.report.rows import Row, configurations, summarise
from otoscope.report.text import numbers, summary
from otoscope.report.text.flat import flat_text
from otoscope.report.values import class_scores, record_values, row_values
from otoscope.results import Predictions, SearchSettings, Store, activation_map
from otoscope.results.activation_map import ActivationMap


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "results")
    for encoder, reduction in (("tiny", 0.0), ("tiny-random", 0.4)):
        for probe, skill in (("linear", 0.6), ("mhca", 1.2), ("protobin", 1.9)):
            control = {"control": encoder == "tiny-random"}
            add_scenes(store, probe, skill - reduction, encoder=encoder, protocol=control)
    add_scenes(store, "finetune", 2.6, source="recorded with `otoscope demo --finetune`")
    return store


@pytest.fixture
def example() -> ActivationMap:
    activation = np.zeros((62, 8), np.float32)
    activation[20, 3] = 0.5
    events = (np.array([0.5, 1.0]), np.array([2.0, 9.9]), ("dog", "rain"))
    mel = np.random.default_rng(0).normal(size=(1000, 128))
    return ActivationMap("t/1", mel, 0.01, activation, 6.25, "dog", 3, *events, ("dog", "rain"), "tiny", "protobin")


def rows_of(rows: list[Row], encoder: str = "tiny") -> dict[str, Row]:
    return {row.label: row for row in rows if row.encoder == encoder}


def test_variants_are_named_by_the_settings_that_differ(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for layer, trials in ((3, 1), (5, 1), (5, 4)):
        search = None if trials == 1 else SearchSettings(kind="sobol", trials=trials)
        store.add(scene_record("linear", 0, 0.5, protocol={"layers": (layer,), "search": search}))
    labels = {row.label for row in configurations(store)}
    wide = "linear (layers=5, search=sobol, trials=4)"
    assert labels == {"linear (layers=3)", "linear (layers=5)", wide}
    store.remove(next(record for record in store if record.protocol.layers == (3,)))
    labels = {row.label for row in configurations(store)}
    assert labels == {"linear", "linear (search=sobol, trials=4)"}


def test_searched_learning_rates_name_a_variant_only_if_no_declared_setting_differs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for shots, lr in ((1, 0.1), (2, 0.2)):
        store.add(scene_record("linear", 0, 0.5, protocol={"shots": shots}, lr=lr))
    assert {row.label for row in configurations(store)} == {"linear (shots=1)", "linear (shots=2)"}
    store.add(scene_record("linear", 0, 0.5, protocol={"shots": 2}, lr=0.3))
    labels = {row.label for row in configurations(store)}
    assert labels == {"linear (shots=1, lr=0.1)", "linear (shots=2, lr=0.2)", "linear (shots=2, lr=0.3)"}


def test_rows_contain_mean_interval_gain_gap_and_winner(store: Store) -> None:
    rows = summarise(store)
    assert [r.probe for r in rows if r.encoder == "tiny"] == ["linear", "mhca", "protobin", "finetune"]
    rows_by_label = rows_of(rows)
    estimates = {
        p: stats.bootstrap([scene_scores(s, 0), scene_scores(s, 1)], TARGETS, "mAP").value
        for p, s in (("linear", 0.6), ("protobin", 1.9), ("finetune", 2.6))
    }
    best = rows_by_label["protobin"]
    assert best.value == pytest.approx(estimates["protobin"])
    assert best.interval is not None
    assert best.interval.low < best.value < best.interval.high
    assert best.gain is not None
    assert best.gain.value == pytest.approx(estimates["protobin"] - estimates["linear"])
    assert best.gap is not None
    share = (estimates["protobin"] - estimates["linear"]) / (estimates["finetune"] - estimates["linear"])
    assert best.gap.value == pytest.approx(share)
    assert [label for label, row in rows_by_label.items() if row.winner] == ["protobin"]
    assert rows_by_label["linear"].gain is rows_by_label["linear"].gap is rows_by_label["finetune"].gap is None
    assert best.spread == pytest.approx(np.std([r.value for r in best.records], ddof=1))


def test_rows_contain_what_a_probe_reads_beyond_the_control(store: Store) -> None:
    rows = summarise(store)
    trained, control = rows_of(rows), rows_of(rows, "tiny-random")
    for probe in ("linear", "mhca", "protobin"):
        beyond = trained[probe].beyond
        assert beyond is not None
        assert beyond.value == pytest.approx(trained[probe].value - control[probe].value)
        assert beyond.low < beyond.value < beyond.high
    assert trained["finetune"].beyond is None
    assert [(row.beyond, row.winner) for row in control.values()] == [(None, False)] * 3
    assert row_values(trained["mhca"])["beyond"] == pytest.approx(trained["mhca"].value - control["mhca"].value)


def test_a_control_is_found_by_its_record_and_in_old_records_only_if_it_is_the_only_one(store: Store) -> None:
    def beyond(encoder: str) -> float | None:
        difference = rows_of(summarise(store), encoder)["linear"].beyond
        return difference and difference.value

    alone = beyond("tiny")
    add_scenes(store, "linear", 0.8, encoder="other")
    assert (beyond("tiny"), beyond("other")) == (None, None)  # whose control is it?
    for label, skill in (("tiny", 0.1), ("other", 0.3)):
        add_scenes(store, "linear", skill, encoder=f"{label}-noise", control_of=label, protocol={"control": True})
    values = {row.encoder: row.value for row in summarise(store) if row.probe == "linear"}
    assert beyond("tiny") == pytest.approx(values["tiny"] - values["tiny-noise"])
    assert beyond("tiny") != alone
    assert beyond("other") == pytest.approx(values["other"] - values["other-noise"])


def test_a_probe_with_other_settings_is_not_the_control(store: Store) -> None:
    add_scenes(store, "mean", 0.9)
    add_scenes(store, "mean", 0.5, encoder="tiny-random", protocol={"control": True, "norm": "layer"})
    assert rows_of(summarise(store))["mean"].beyond is None


def test_the_column_beyond_is_shown_only_with_a_control(store: Store) -> None:
    trained, control = summary.by_pair(summarise(store))
    assert "beyond random weights" in summary.summary_table(trained).header
    assert "beyond random weights" not in summary.summary_table(control).header
    assert "on the same encoder with random weights" in summary.summary_text([*trained, *control])
    assert "random weights" not in summary.summary_text(control)


def test_the_order_of_clips_in_a_record_does_not_matter(store: Store) -> None:
    permutation = np.random.default_rng(1).permutation(90)
    ids, scores = tuple(np.array(IDS)[permutation].tolist()), scene_scores(0.6, 0)[permutation]
    predictions = Predictions(ids, scores, TARGETS[permutation], SCENE_CLASSES)
    store.add(scene_record("mean", 0, rows_of(summarise(store))["linear"].records[0].value), predictions)
    gain = rows_of(summarise(store))["mean"].gain
    assert gain is not None
    assert not np.isnan(gain.low)


def test_configurations_are_not_merged_and_the_best_linear_probe_is_the_baseline(store: Store) -> None:
    add_scenes(store, "linear", 0.9, lr=0.01, seeds=1)
    rows_by_label = rows_of(summarise(store))
    assert {"linear (lr=0.001)", "linear (lr=0.01)"} <= set(rows_by_label)
    gain = rows_by_label["protobin"].gain
    assert gain is not None
    assert gain.value == pytest.approx(rows_by_label["protobin"].value - rows_by_label["linear (lr=0.01)"].value)


def test_few_shots_are_measured_against_the_linear_probe_and_fine_tuning_of_their_own_draw(store: Store) -> None:
    for draw, skill in ((0, 0.3), (1, 0.5)):
        for probe, more in (("linear", 0.0), ("mhca", 0.3), ("finetune", 0.9)):
            add_scenes(store, probe, skill + more, seeds=1, protocol={"shots": 2, "draw": draw})
    add_scenes(store, "protobin", 0.9, seeds=1, protocol={"shots": 4})
    tiny = [row for row in summarise(store) if row.encoder == "tiny"]
    rows = {(r.probe, r.records[0].protocol.shots, r.records[0].protocol.draw): r for r in tiny}
    for shots, draw in ((2, 0), (2, 1), (None, 0)):
        linear, mhca, finetune = (rows[probe, shots, draw] for probe in ("linear", "mhca", "finetune"))
        assert linear.gain is None
        assert mhca.gain is not None
        assert mhca.gap is not None
        assert mhca.gain.value == pytest.approx(mhca.value - linear.value)
        assert mhca.gap.value == pytest.approx((mhca.value - linear.value) / (finetune.value - linear.value))
    assert rows["protobin", 4, 0].gain is rows["protobin", 4, 0].gap is None


def test_all_readers_measure_against_the_same_linear_probe(store: Store, tmp_path: Path) -> None:
    add_scenes(store, "linear", 0.9, lr=0.01, seeds=1)
    add_scenes(store, "linear", 0.2, seeds=1, protocol={"shots": 2})
    rows = [row for row in summarise(store) if row.encoder == "tiny"]
    best = next(row for row in rows if row.winner)
    assert best.gain is not None
    linear = next(row for row in rows if row.value == pytest.approx(best.value - best.gain.value))
    assert headline.headline_of(rows).endswith(f", a linear probe {100 * linear.value:.1f}")
    page = write_report(store.path, tmp_path / "report.html").read_text(encoding="utf-8")
    figure = page[page.index("Class by class") :]
    assert linear.label in figure[: figure.index("other probes")]


def test_equal_probes_have_the_star_together_and_every_reader_shows_the_same_stars(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for probe, skill in (("linear", 0.6), ("mean", 1.2), ("mhca", 1.2)):
        add_scenes(store, probe, skill)
    rows = summarise(store)
    assert [row.label for row in rows if row.winner] == ["mean", "mhca"]
    assert without_inner_layers(rows) == rows
    assert headline.best_row(rows).winner


def test_a_probe_with_a_part_of_the_folds_is_the_best_in_no_reader(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for probe, skill, folds in (("linear", 0.6, (1, 2)), ("mean", 1.2, (1, 2)), ("mhca", 1.9, (1,))):
        for fold in folds:
            add_scenes(store, probe, skill, protocol={"fold": fold, "dataset_digest": f"{fold}" * 64})
    rows = summarise(store)
    assert [row.label for row in rows if row.winner] == ["mean"]
    assert [row.label for row in without_inner_layers(rows) if row.winner] == ["mean"]
    assert headline.best_row(rows).label == "mean"


def test_a_gain_over_linear_that_has_not_converged_is_marked_also_where_linear_is_filtered_out(tmp_path: Path) -> None:
    store, reason = Store(tmp_path / "results"), "the validation score was still rising"
    add_scenes(store, "linear", 0.6, not_converged=(reason,))
    add_scenes(store, "mhca", 1.2)
    add_scenes(store, "linear", 0.3, encoder="other")
    add_scenes(store, "mhca", 0.9, encoder="other")
    rows = [row for row in summarise(store) if row.probe == "mhca"]
    headers = [summary.summary_table(pair).header for pair in summary.by_pair(rows)]
    assert ["gain over linear" in header for header in headers] == [True, False]
    assert ["gain over linear‡" in header for header in headers] == [False, True]
    assert any(f"{reason}: tiny, scenes, linear" in note for note in summary.footnotes(rows))


def test_the_note_on_the_spread_over_seeds_needs_a_spread(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for fold, lr in ((1, 0.1), (2, 0.2)):
        add_scenes(store, "linear", 0.6, seeds=1, lr=lr, protocol={"fold": fold, "dataset_digest": f"{fold}" * 64})
    assert not any(note.startswith("sd over seeds") for note in summary.footnotes(summarise(store)))


def test_results_of_another_data_set_digest_are_never_compared(store: Store) -> None:
    add_scenes(store, "protobin", 3.0, protocol={"dataset_digest": "e" * 64})
    rows = summarise(store)
    other = [row for row in rows if row.pair[3].startswith("e")]
    assert [(row.gain, row.gap, row.winner) for row in other] == [(None, None, False)]
    assert "data set eeeeeeee" in summary.summary_text(rows)
    assert rows_of([r for r in rows if r not in other])["protobin"].winner


def test_a_record_without_predictions_has_a_value_but_no_interval(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for probe, value in (("linear", 0.2), ("mhca", 0.3), ("finetune", 0.4)):
        store.add(scene_record(probe, 0, value))
    rows_by_label = rows_of(summarise(store))
    assert rows_by_label["mhca"].interval is None
    assert numbers.difference(rows_by_label["mhca"].gain) == "+10.0"
    assert summary.gap(rows_by_label["mhca"]) == "50 %"
    assert "mhca reaches 30.0 mAP" in write_report(store.path, tmp_path / "r.html").read_text()


def test_multi_class_results_are_measured_by_accuracy(tmp_path: Path) -> None:
    store, label = Store(tmp_path / "results"), np.arange(90) % 3
    for probe, skill in (("linear", 0.5), ("mhca", 3.0)):
        logits = (np.random.default_rng(2).normal(size=(90, 3)) + skill * np.eye(3)[label]).astype(np.float32)
        values = metrics.evaluate(logits, np.eye(3)[label], "multi-class")
        task = {"task": "multi-class"}
        record = scene_record(probe, 0, values["accuracy"], metric="accuracy", metrics=values, protocol=task)
        store.add(record, Predictions(IDS, logits, np.eye(3)[label].astype(np.uint8), SCENE_CLASSES))
    best = rows_of(summarise(store))["mhca"]
    assert best.estimate is not None
    assert best.estimate.value == pytest.approx(best.value)
    assert "accuracy in %" in summary.summary_text([best])


def test_an_empty_store_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="otoscope demo"):
        summarise(Store(tmp_path))


def test_tables_and_verdicts_say_that_groups_were_resampled_also_for_older_records(tmp_path: Path) -> None:
    store = Store(tmp_path)
    add_scenes(store, "linear", 0.6)
    narrow = summarise(store)[0].interval
    groups = tuple((f"recording {i % 30}",) for i in range(len(IDS)))
    predictions = Predictions(IDS, scene_scores(1.9, 0), TARGETS, SCENE_CLASSES, groups)
    store.add(scene_record("protobin", 0, 0.9), predictions)
    rows = summarise(store)
    assert summary.title(rows) == (
        "tiny on scenes: mAP in %, 95 % intervals over 90 held-out clips, resampled by group (30 groups)"
    )
    assert [row.estimate.groups for row in rows if row.estimate] == [30, 30]
    assert rows[0].interval != narrow
    assert (
        "; the same 90 held-out clips, resampled by group (30 groups);" in compare(store, "protobin", "linear").text()
    )


def test_terminal_table_is_aligned_marked_and_explains_its_marks(store: Store) -> None:
    text = summary.summary_text(summarise(store))
    lines = text.split("\n\n")[0].splitlines()
    assert lines[0] == "tiny on scenes: mAP in %, 95 % intervals over 90 held-out clips"
    assert len({len(line) for line in lines[1:]}) == 1
    assert [line.split()[:2] for line in lines[3:]][2] == ["protobin", "★"]
    assert "★ best probe" in text
    note = next(line for line in text.splitlines() if line.startswith("†"))
    assert all(part in note for part in ("otoscope demo --finetune", "2026-01-02", "2 cores", "1 min 15 s"))


def test_markdown_csv_and_json_contain_the_same_numbers(store: Store) -> None:
    rows = summarise(store)
    lines = summary.summary_markdown(rows).splitlines()
    assert lines[2].count("|") == lines[3].count("|") == lines[4].count("|")
    flat = [row_values(row) for row in rows]
    parsed = list(csv.DictReader(io.StringIO(flat_text(flat, "csv"))))
    again = json.loads(flat_text(flat, "json"))
    assert [float(row["value"]) for row in parsed] == [row["value"] for row in again] == [row.value for row in rows]
    assert parsed[0]["gain"] == ""
    assert again[0]["gain"] is None
    assert numbers.percent(rows[2].value) in lines[6]


def test_results_are_one_row_per_seed_with_the_documented_columns(store: Store) -> None:
    rows = record_values(store)
    assert list(rows[0])[:6] == ["encoder", "dataset", "probe", "seed", "fold", "metric"]
    assert len(rows) == len(list(store)) == 14
    assert {row["probe"] for row in rows} == {"linear", "mhca", "protobin", "finetune"}
    text = flat_text(rows, "table")
    assert "protocol" not in text.splitlines()[0]


def test_the_page_is_complete_and_loads_nothing(store: Store, example: ActivationMap, tmp_path: Path) -> None:
    example.save(activation_map.activation_path(store.path))
    page = parse_page(write_report(store.path, tmp_path / "report.html"))
    assert page.open == []
    assert len(page.loads) == 2
    assert all(link.startswith("data:image/png;base64,") for link in page.loads)
    assert not re.search(r"url\(|@import|https?:", (tmp_path / "report.html").read_text())
    text = " ".join(page.text)
    for part in (
        "The comparison",
        "side by side",
        "Class by class",
        "one prototype",
        "How it was measured",
        "Copy the results",
    ):
        assert part in text
    assert page.tags.count("table") == 3
    assert "<b>siren</b>" in text
    assert "b" not in page.tags


def test_the_page_without_an_activation_map_omits_that_section(store: Store, tmp_path: Path) -> None:
    text = " ".join(parse_page(write_report(store.path, tmp_path / "report.html")).text)
    assert "one prototype" not in text
    assert "Class by class" in text


def test_the_headline_states_only_what_the_numbers_support(store: Store) -> None:
    rows = summarise(store)
    tiny = [row for row in rows if row.encoder == "tiny"]
    best, linear = rows_of(rows)["protobin"], rows_of(rows)["linear"]
    assert headline.headline_of(tiny) == (
        f"protobin reaches {100 * best.value:.1f} mAP on frozen tiny, a linear probe {100 * linear.value:.1f}"
    )
    lead = " ".join(headline.reasons(tiny, [row for row in rows if row not in tiny]))
    assert "% of the gap" in lead
    assert "Its lead over mhca" in lead
    assert "which has random weights" in lead
    assert "do not decide" not in lead


def test_the_headline_speaks_of_all_encoders_of_the_data_set_with_most_results(store: Store, tmp_path: Path) -> None:
    for probe, skill in (("linear", 1.4), ("mhca", 2.6)):
        add_scenes(store, probe, skill, encoder="zebra")
    store.add(replace(scene_record("linear", 0, 0.99), dataset="another"))
    rows = summarise(store)
    shown = headline.main_dataset(rows)
    assert {(row.dataset, row.encoder) for row in shown} == {("scenes", "tiny"), ("scenes", "zebra")}
    best, second = rows_of(rows, "zebra")["mhca"], rows_of(rows)["protobin"]
    title = headline.headline_of(shown)
    linear = f"a linear probe {100 * rows_of(rows, 'zebra')['linear'].value:.1f}"
    assert title == (
        f"mhca reaches {100 * best.value:.1f} mAP on frozen zebra, the best of 2 encoders on scenes, {linear}"
    )
    lead = headline.reasons(shown, [row for row in rows if row not in shown])
    score = f"{100 * second.value:.1f}"
    assert lead[0].startswith(f"The second-best encoder on scenes, tiny, reaches {score} with protobin;")
    assert lead[-1] == "There are also results for another."
    page = parse_page(write_report(store.path, tmp_path / "report.html"))
    assert title in "".join(page.text)


@pytest.mark.parametrize(("groups", "words"), [(None, "clips"), (30, "groups of clips")])
def test_the_legend_names_what_intervals_are_computed_over(tmp_path: Path, groups: int | None, words: str) -> None:
    store, names = Store(tmp_path / "results"), tuple((f"tape {i % (groups or 1)}",) for i in range(len(IDS)))
    for probe, skill in (("linear", 0.6), ("mhca", 1.2)):
        scores = scene_scores(skill, 0)
        predictions = Predictions(IDS, scores, TARGETS, SCENE_CLASSES, names if groups else ())
        store.add(scene_record(probe, 0, metrics.evaluate(scores, TARGETS, "multi-label")["mAP"]), predictions)
    text = " ".join(parse_page(write_report(store.path, tmp_path / "report.html")).text)
    assert f"95 % interval over {words} " in text


def test_an_insignificant_lead_is_called_undecided(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for probe, seed in (("linear", 3), ("mhca", 4)):
        values = (np.random.default_rng(seed).normal(size=TARGETS.shape) + TARGETS).astype(np.float32)
        value = metrics.evaluate(values, TARGETS, "multi-label")["mAP"] + (0.001 if probe == "mhca" else 0)
        store.add(scene_record(probe, 0, value), Predictions(IDS, values, TARGETS, SCENE_CLASSES))
    rows = summarise(store)
    assert rows[-1].probe == "mhca"
    assert "the test clips do not decide it" in " ".join(headline.reasons(rows, []))


def test_the_length_of_a_bar_is_proportional_to_its_value(store: Store) -> None:
    rows = [row for row in summarise(store) if row.encoder == "tiny"]
    svg = figures.bar_chart(rows)
    widths = [float(w) for w in re.findall(r'<rect class="bar[^"]*" x="160.0" y="[\d.]+" width="([\d.]+)"', svg)]
    assert len(widths) == len(rows)
    np.testing.assert_allclose(np.array(widths) / widths[-1], [r.value / rows[-1].value for r in rows], atol=2e-3)
    assert svg.count('class="bar-best"') == 1


def test_narrow_bars_of_several_encoders_have_their_names(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for encoder, probe in (("tiny", "linear"), ("ear", "linear"), ("ear", "mean"), ("eye", "mean")):
        add_scenes(store, probe, 1.0, encoder=encoder)
    rows = sorted(summarise(store), key=lambda row: row.encoder != "tiny")
    drawn = figures.bar_chart(rows)
    assert sorted(re.findall(r'class="small"[^>]*>(\w+)<', drawn)) == ["ear", "ear", "eye"]
    assert re.findall(r'class="small"[^>]*>(\w+)<', figures.bar_chart([r for r in rows if r.encoder != "eye"])) == []
    tops = dict(re.findall(r'<rect class="bar[^"]*" x="160.0" y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', drawn))
    middles = [float(y) + float(height) / 2 + 5 for y, height in tops.items()]
    for y in re.findall(r'class="label" x="148.0" y="([\d.]+)"', drawn):
        assert min(abs(float(y) - middle) for middle in middles) < 0.1


def test_classes_are_sorted_by_gain_and_only_the_extremes_of_many_are_drawn() -> None:
    names = [f"class{i:03d}" for i in range(100)]
    base, best = dict.fromkeys(names, 0.2), {name: 0.2 + i / 200 for i, name in enumerate(names)}
    svg = figures.class_chart({"linear": base, "protobin": best}, "protobin")
    labels = re.findall(r'class="label"[^>]*>(class\d+)<', svg)
    assert labels == names[:69:-1] + names[29::-1]


def test_a_class_without_positives_has_no_score(tmp_path: Path) -> None:
    store, targets = Store(tmp_path / "results"), TARGETS.copy()
    targets[:, 1] = 0
    store.add(scene_record("linear", 0, 0.5), Predictions(IDS, scene_scores(1, 0), targets, SCENE_CLASSES))
    assert set(class_scores(store, summarise(store)[0])) == {"dog", "rain"}


def test_the_activation_map_outlines_the_token_with_the_highest_activation(example: ActivationMap) -> None:
    svg = figures.activation_chart(example)
    x, width = re.search(r'class="outline" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', svg).groups()  # type: ignore[union-attr]
    seconds = (float(x) - figures.LEFT) / figures.PLOT * example.seconds
    assert seconds == pytest.approx(20 / 6.25, abs=0.02)
    assert float(width) / figures.PLOT * example.seconds == pytest.approx(1 / 6.25, abs=0.02)
    assert "event event-shown" in svg


def test_an_activation_map_is_saved_and_loaded_and_bad_files_are_refused(
    example: ActivationMap, tmp_path: Path
) -> None:
    example.save(tmp_path / "activation_map.npz")
    again = activation_map.load(tmp_path / "activation_map.npz")
    np.testing.assert_array_equal(again.activation, example.activation)
    np.testing.assert_allclose(again.log_mel, example.log_mel, rtol=1e-6)
    names = ("clip_id", "event_labels", "true_labels", "prototype", "class_name", "hop_seconds", "encoder", "probe")
    assert [getattr(again, name) for name in names] == [getattr(example, name) for name in names]
    assert [type(getattr(again, name)) for name in names] == [type(getattr(example, name)) for name in names]
    silent = replace(example, event_onsets=np.zeros(0), event_offsets=np.zeros(0), event_labels=(), true_labels=())
    silent.save(tmp_path / "silent.npz")
    assert activation_map.load(tmp_path / "silent.npz").event_labels == ()
    assert "<svg" in figures.activation_chart(silent)
    np.savez(tmp_path / "other.npz", a=np.zeros(1))
    (tmp_path / "text.npz").write_text("no archive")
    for bad in ("other", "text"):
        with pytest.raises(ValueError, match="activation map"):
            activation_map.load(tmp_path / f"{bad}.npz")
    with pytest.raises(ValueError, match="onset, offset and label"):
        replace(example, event_labels=("dog",))
    with pytest.raises(ValueError, match=r"\[frames, bins\]"):
        replace(example, log_mel=np.zeros(3))
    with pytest.raises(ValueError, match="> 0"):
        replace(example, hop_seconds=0)


def test_fine_tuning_under_any_label_is_not_a_probe(store: Store, tmp_path: Path) -> None:
    add_scenes(store, "lora", 2.9, protocol={"probe": "finetune"})
    rows = {row.label: row for row in summarise(store) if row.encoder == "tiny"}
    assert (rows["lora"].finetuned, rows["protobin"].finetuned) == (True, False)
    assert [name for name, row in rows.items() if row.winner] == ["protobin"]
    assert rows["protobin"].gap is not None
    gap = rows["lora"].value - rows["linear"].value  # the better of the two references
    assert rows["protobin"].gap.value == pytest.approx((rows["protobin"].value - rows["linear"].value) / gap)
    assert "lora" not in headline.headline_of(list(rows.values()))
    assert "lora" in write_report(store.path, tmp_path / "report.html").read_text()
