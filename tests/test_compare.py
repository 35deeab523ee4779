"""The verdict of a paired comparison: its sentence, its significance, and the correction for several comparisons."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers_records import IDS, SCENE_CLASSES, TARGETS, add_scenes, scene_record, scene_scores
from otoscope import compare, metrics
from otoscope.metrics import stats
from otoscope.registry import UnknownNameError
from otoscope.report import compare as module
from otoscope.report.headline import reasons
from otoscope.report.rows import Row, summarise
from otoscope.report.text.summary import summary_table
from otoscope.results import Predictions, Store


def add_equal_probe(store: Store, probe: str, encoder: str = "tiny") -> None:
    """Add two seeds with the skill of `linear` and different noise."""
    for seed in range(2):
        scores = scene_scores(0.6, 10 + seed)
        value = metrics.evaluate(scores, TARGETS, "multi-label")["mAP"]
        store.add(scene_record(probe, seed, value, encoder), Predictions(IDS, scores, TARGETS, SCENE_CLASSES))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "results")
    for probe, skill in (("linear", 0.6), ("protobin", 1.9)):
        add_scenes(store, probe, skill, seeds=3 if probe == "protobin" else 2)
    add_equal_probe(store, "mhca")
    return store


def test_a_clear_difference_is_a_verdict_with_the_numbers_of_the_paired_bootstrap(store: Store) -> None:
    (verdict,) = compare(store, "protobin", "linear", resamples=500).verdicts
    by_id = np.argsort(IDS)
    expected = stats.paired_bootstrap(
        *(
            stats.bootstrap([scene_scores(skill, s)[by_id] for s in range(seeds)], TARGETS[by_id], "mAP", resamples=500)
            for skill, seeds in ((1.9, 3), (0.6, 2))
        )
    )
    assert verdict.difference == expected
    assert verdict.winner is verdict.a
    assert verdict.sentence() == (
        f"tiny on scenes: protobin beats linear by {100 * expected.value:.1f} points of mAP "
        f"({100 * verdict.a.value:.1f} against {100 * verdict.b.value:.1f}; "
        f"95 % interval {100 * expected.low:.1f} to {100 * expected.high:.1f}, p = 0.002; "
        "the same 90 held-out clips; 3 and 2 training seeds, averaged)."
    )


def test_what_both_probes_read_beyond_the_control_follows_the_verdict(store: Store) -> None:
    without = compare(store, "protobin", "linear")
    assert without.verdicts[0].beyond_sentence() == ""
    for probe, skill in (("linear", 0.2), ("protobin", 1.1)):
        random = {"encoder": "tiny-random", "control_of": "tiny", "protocol": {"control": True}}
        add_scenes(store, probe, skill, seeds=3 if probe == "protobin" else 2, **random)
    (verdict,) = compare(store, "linear", "protobin").verdicts  # the control is no second pair
    low, high = verdict.a.beyond, verdict.b.beyond
    assert low is not None
    assert high is not None
    assert verdict.beyond_sentence() == (
        "Beyond the same encoder with random weights: "
        f"protobin {100 * high.value:.1f} points (95 % interval {100 * high.low:.1f} to {100 * high.high:.1f}), "
        f"linear {100 * low.value:.1f} points (95 % interval {100 * low.low:.1f} to {100 * low.high:.1f})."
    )
    assert compare(store, "linear", "protobin").text() == compare(store, "protobin", "linear").text()
    filtered = compare(store, "protobin", "linear", select=lambda encoder, *_: encoder == "tiny")
    assert filtered.verdicts[0].beyond_sentence() == verdict.beyond_sentence()
    renamed = replace(verdict, a=replace(verdict.a, variant="norm=batch-wise"))
    assert "norm=batch-wise" in renamed.beyond_sentence()
    (alone,) = compare(store, "protobin", "linear", select=lambda encoder, *_: encoder == "tiny-random").verdicts
    assert alone.a.encoder == "tiny-random"


def test_the_order_of_the_names_changes_the_sign_and_not_the_sentence(store: Store) -> None:
    one, other = compare(store, "protobin", "linear"), compare(store, "linear", "protobin")
    assert one.text() == other.text()
    assert one.verdicts[0].difference.value == -other.verdicts[0].difference.value
    assert other.verdicts[0].winner is other.verdicts[0].b


def test_a_small_difference_stays_undecided(store: Store) -> None:
    (verdict,) = compare(store, "linear", "mhca").verdicts
    assert verdict.difference.low < 0 < verdict.difference.high
    assert verdict.winner is None
    first, second = ("linear", "mhca") if verdict.difference.value > 0 else ("mhca", "linear")
    assert f"the clips do not decide between {first} and {second}: {first} leads by" in verdict.sentence()
    assert "2 training seeds each, averaged" in verdict.sentence()


@pytest.mark.parametrize(
    ("number", "reason", "sample"),
    [
        (1, "one group", "only 1 group: there are no intervals"),
        (3, "only 3 groups, fewer than 10", "only 3 groups: intervals are unreliable"),
    ],
)
def test_with_few_groups_nothing_is_decided(tmp_path: Path, number: int, reason: str, sample: str) -> None:
    store, groups = Store(tmp_path), tuple((f"site {i % number}",) for i in range(len(IDS)))
    for probe, skill in (("linear", 0.6), ("protobin", 1.9)):
        for encoder, less in (("tiny", 0.0), ("tiny-random", 0.4)):
            control = {"control_of": "tiny", "protocol": {"control": True}} if less else {}
            scores = scene_scores(skill - less, 0)
            value = metrics.evaluate(scores, TARGETS, "multi-label")["mAP"]
            record = scene_record(probe, 0, value, encoder, **control)
            store.add(record, Predictions(IDS, scores, TARGETS, SCENE_CLASSES, groups))
    comparison = compare(store, "protobin", "linear", resamples=200)
    (verdict,) = comparison.verdicts
    assert verdict.winner is None
    assert f"tiny on scenes: protobin against linear cannot be decided, because the clips come from {reason}: " in (
        verdict.sentence()
    )
    assert (
        f"; the same 90 held-out clips, resampled by group ({sample}); one training seed each)." in verdict.sentence()
    )
    text = comparison.text()
    assert "beats" not in text
    assert "p =" not in text
    assert "nan" not in text
    assert text.count("95 % interval") == (0 if number == 1 else 3)
    row = next(row for row in summarise(store) if (row.encoder, row.probe) == ("tiny", "protobin"))
    assert (summary_table([row]).body[0][2] == "–") == (number == 1)
    claim = reasons([row], [])[0]
    assert ("unreliable with fewer than 10 groups" in claim) == (number > 1)


def test_several_pairs_are_corrected_as_one_family(store: Store) -> None:
    for encoder in ("a", "b"):
        add_scenes(store, "linear", 0.6, encoder=encoder)
        add_equal_probe(store, "protobin", encoder)
    comparison = compare(store, "protobin", "linear", resamples=300)
    assert [v.p for v in comparison.verdicts] == stats.holm([v.difference.p for v in comparison.verdicts]).tolist()
    assert comparison.verdicts[2].p == 3 * comparison.verdicts[2].difference.p
    assert "p = 0.0033, p = 0.01 after Holm's correction for 3 comparisons" in comparison.verdicts[2].sentence()
    last = comparison.text().splitlines()[-1]
    assert (
        last == "Of 3 pairs of encoder and data set, protobin wins 1 and linear wins 0; "
        "2 are undecided, at 5 % for all of them together (Holm)."
    )
    only = compare(store, "protobin", "linear", select=lambda encoder, *_: encoder == "tiny", resamples=300)
    assert only.verdicts[0].p == only.verdicts[0].difference.p


def test_the_correction_can_make_a_difference_insignificant(store: Store) -> None:
    (verdict,) = compare(store, "protobin", "linear").verdicts
    corrected = module.Verdict(verdict.a, verdict.b, verdict.difference, 0.06, 30)
    assert corrected.winner is None
    assert "do not decide" in corrected.sentence()


def test_the_number_of_resamples_grows_with_the_family(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    resample_counts, with_estimate = [], module.with_estimate

    def recording(results: Store, row: Row, *, resamples: int) -> Row:
        resample_counts.append(resamples)
        return with_estimate(results, row, resamples=resamples)

    monkeypatch.setattr(module, "with_estimate", recording)
    add_scenes(store, "linear", 0.6, encoder="b", seeds=1)
    add_scenes(store, "protobin", 1.9, encoder="b", seeds=1)
    comparison = compare(store, "protobin", "linear", resamples=10)
    assert set(resample_counts) == {200}
    assert all(v.winner is v.a for v in comparison.verdicts)


def test_pairs_without_common_predictions_are_left_out_and_named(store: Store) -> None:
    add_scenes(store, "linear", 0.6, encoder="only-linear")
    for probe in ("linear", "protobin"):
        store.add(scene_record(probe, 0, 0.3, "no-predictions"))
    add_scenes(store, "linear", 0.9, encoder="other", seeds=1)
    half = Predictions(IDS[:45], scene_scores(1.9, 0)[:45], TARGETS[:45], SCENE_CLASSES)
    store.add(scene_record("protobin", 0, 0.9, "other"), half)
    comparison = compare(store, "protobin", "linear")
    assert [v.a.encoder for v in comparison.verdicts] == ["tiny"]
    assert "omitted: only-linear on scenes has no protobin" in comparison.text()
    assert "omitted: no-predictions on scenes has no predictions of the same clips for both" in comparison.text()
    assert "omitted: other on scenes has no predictions of the same clips for both" in comparison.text()
    with pytest.raises(ValueError, match="only-linear on scenes has no protobin"):
        compare(store, "protobin", "linear", select=lambda encoder, _, probe: (encoder, probe) != ("tiny", "protobin"))


def test_several_configurations_are_distinguished_by_their_labels(store: Store) -> None:
    add_scenes(store, "linear", 0.9, lr=0.01)
    with pytest.raises(ValueError, match=r"name one of 'linear \(lr=0.001\)', 'linear \(lr=0.01\)'"):
        compare(store, "protobin", "linear")
    (verdict,) = compare(store, "linear (lr=0.01)", "linear (lr=0.001)").verdicts
    assert verdict.a.records[0].lr == 0.01
    assert verdict.difference.value > 0


def test_errors_name_the_available_probes(store: Store) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'protobin'"):
        compare(store, "protbin", "linear")
    with pytest.raises(ValueError, match="compared with itself"):
        compare(store, "linear", "linear")
    with pytest.raises(ValueError, match="no results"):
        compare(Store(store.path / "nowhere"), "linear", "mhca")


def test_equal_predictions_are_no_difference(tmp_path: Path) -> None:
    store = Store(tmp_path)
    add_scenes(store, "linear", 1.0)
    add_scenes(store, "copy", 1.0)
    (verdict,) = compare(store, "linear", "copy").verdicts
    assert (verdict.difference.value, verdict.difference.p, verdict.winner) == (0.0, 1.0, None)
    assert np.isfinite(verdict.difference.low)
