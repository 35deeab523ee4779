"""The paired verdict: what it says, when it stays silent, and that several are corrected together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from otoscope import metrics
from otoscope.metrics import stats
from otoscope.registry import UnknownNameError
from otoscope.report import compare as module
from otoscope.report.compare import compare
from otoscope.report.rows import Row
from otoscope.results import Predictions, Store
from planted import IDS, SCENE_CLASSES, TARGETS, add_scenes, scene_record, scene_scores


def add_peer(store: Store, probe: str, encoder: str = "tiny") -> None:
    """Two seeds as skilled as `linear`, with other luck."""
    for seed in range(2):
        held = scene_scores(0.6, 10 + seed)
        value = metrics.evaluate(held, TARGETS, "multi-label")["mAP"]
        store.add(scene_record(probe, seed, value, encoder), Predictions(IDS, held, TARGETS, SCENE_CLASSES))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "results")
    for probe, skill in (("linear", 0.6), ("protobin", 1.9)):
        add_scenes(made, probe, skill, seeds=3 if probe == "protobin" else 2)
    add_peer(made, "mhca")
    return made


def test_a_clear_difference_is_a_verdict_with_the_numbers_of_the_paired_bootstrap(store: Store) -> None:
    (found,) = compare(store, "protobin", "linear", resamples=500).verdicts
    by_id = np.argsort(IDS)
    by_hand = stats.paired_bootstrap(
        *(
            stats.bootstrap([scene_scores(skill, s)[by_id] for s in range(seeds)], TARGETS[by_id], "mAP", resamples=500)
            for skill, seeds in ((1.9, 3), (0.6, 2))
        )
    )
    assert found.difference == by_hand
    assert found.winner is found.a
    d = by_hand
    assert found.sentence() == (
        f"tiny on scenes: protobin beats linear by {100 * d.value:.1f} points of mAP "
        f"({100 * found.a.value:.1f} against {100 * found.b.value:.1f}; "
        f"95 % interval {100 * d.low:.1f} to {100 * d.high:.1f}, p = 0.002; "
        "the same 90 held-out clips; 3 and 2 training seeds, averaged)."
    )


def test_the_order_of_the_names_turns_the_sign_and_not_the_sentence(store: Store) -> None:
    one, other = compare(store, "protobin", "linear"), compare(store, "linear", "protobin")
    assert one.text() == other.text()
    assert one.verdicts[0].difference.value == -other.verdicts[0].difference.value
    assert other.verdicts[0].winner is other.verdicts[0].b


def test_a_small_difference_stays_undecided(store: Store) -> None:
    (found,) = compare(store, "linear", "mhca").verdicts
    assert found.difference.low < 0 < found.difference.high
    assert found.winner is None
    first, second = ("linear", "mhca") if found.difference.value > 0 else ("mhca", "linear")
    assert f"the clips do not decide between {first} and {second}: {first} leads by" in found.sentence()
    assert "2 training seeds each, averaged" in found.sentence()


def test_several_cells_are_one_family(store: Store) -> None:
    for encoder in ("a", "b"):
        add_scenes(store, "linear", 0.6, encoder=encoder)
        add_peer(store, "protobin", encoder)
    found = compare(store, "protobin", "linear", resamples=300)
    assert [v.p for v in found.verdicts] == stats.holm([v.difference.p for v in found.verdicts]).tolist()
    assert found.verdicts[2].p == 3 * found.verdicts[2].difference.p
    assert "p = 0.0033, p = 0.01 after Holm's correction for 3 comparisons" in found.verdicts[2].sentence()
    last = found.text().splitlines()[-1]
    assert (
        last == "Of 3 pairs of encoder and data set, protobin wins 1 and linear wins 0; "
        "2 are undecided, at 5 % for all of them together (Holm)."
    )
    only = compare(store, "protobin", "linear", select=lambda encoder, *_: encoder == "tiny", resamples=300)
    assert only.verdicts[0].p == only.verdicts[0].difference.p


def test_the_correction_can_take_a_verdict_back(store: Store) -> None:
    (found,) = compare(store, "protobin", "linear").verdicts
    again = module.Verdict(found.a, found.b, found.difference, 0.06, 30)
    assert again.winner is None
    assert "do not decide" in again.sentence()


def test_resamples_grow_with_the_family_so_that_holm_can_still_decide(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, with_estimate = [], module.with_estimate

    def noted(held: Store, row: Row, *, resamples: int) -> Row:
        made.append(resamples)
        return with_estimate(held, row, resamples=resamples)

    monkeypatch.setattr(module, "with_estimate", noted)
    add_scenes(store, "linear", 0.6, encoder="b", seeds=1)
    add_scenes(store, "protobin", 1.9, encoder="b", seeds=1)
    found = compare(store, "protobin", "linear", resamples=10)
    assert set(made) == {200}
    assert all(v.winner is v.a for v in found.verdicts)


def test_what_cannot_be_paired_is_left_out_and_named(store: Store) -> None:
    add_scenes(store, "linear", 0.6, encoder="lonely")
    for probe in ("linear", "protobin"):
        store.add(scene_record(probe, 0, 0.3, "mute"))
    add_scenes(store, "linear", 0.9, encoder="other", seeds=1)
    half = Predictions(IDS[:45], scene_scores(1.9, 0)[:45], TARGETS[:45], SCENE_CLASSES)
    store.add(scene_record("protobin", 0, 0.9, "other"), half)
    found = compare(store, "protobin", "linear")
    assert [v.a.encoder for v in found.verdicts] == ["tiny"]
    assert "left out: lonely on scenes has no protobin" in found.text()
    assert "left out: mute on scenes has no predictions of the same clips for both" in found.text()
    assert "left out: other on scenes has no predictions of the same clips for both" in found.text()
    with pytest.raises(ValueError, match="lonely on scenes has no protobin"):
        compare(store, "protobin", "linear", select=lambda encoder, _, probe: (encoder, probe) != ("tiny", "protobin"))


def test_several_configurations_are_told_apart_by_their_labels(store: Store) -> None:
    add_scenes(store, "linear", 0.9, lr=0.01)
    with pytest.raises(ValueError, match=r"name one of 'linear \(lr=0.001\)', 'linear \(lr=0.01\)'"):
        compare(store, "protobin", "linear")
    (found,) = compare(store, "linear (lr=0.01)", "linear (lr=0.001)").verdicts
    assert found.a.records[0].lr == 0.01
    assert found.difference.value > 0


def test_mistakes_are_answered_with_what_is_there(store: Store) -> None:
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
    (found,) = compare(store, "linear", "copy").verdicts
    assert (found.difference.value, found.difference.p, found.winner) == (0.0, 1.0, None)
    assert np.isfinite(found.difference.low)
