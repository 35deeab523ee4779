"""Rankings of encoders: the whole path against brute force, what is decided and what is not, folds and draws."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from otoscope.metrics import stats
from otoscope.report.rankings import EncoderRanking, rank
from otoscope.report.scoreboard import scoreboard
from otoscope.report.standings import standing_records
from otoscope.report.text.rankings import board_sentences, order, verdict
from otoscope.results import Predictions, Store
from planted import CLASSES, Ground, plant

GROUND = Ground.sown("scenes")
SKILLS = {
    "whisper": {"linear": 1.1, "mhca": 1.0, "finetune": 1.6},
    "tiny": {"linear": 0.6, "mhca": 1.1, "finetune": 1.5},
    "random": {"linear": 0.3, "mhca": 0.5, "finetune": 1.1},
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "results")
    for luck, (encoder, skills) in enumerate(SKILLS.items()):
        plant(made, GROUND, encoder, skills, luck=luck)
    return made


def only(store: Store, **options: int) -> EncoderRanking:
    (found,) = rank(store, **options).rankings
    return found


def by_hand(encoder: str, probe: str, resamples: int) -> stats.Estimate:
    luck, skill = list(SKILLS).index(encoder), SKILLS[encoder][probe]
    held = [GROUND.scores(skill, luck, seed) for seed in range(2)]
    return stats.bootstrap(held, GROUND.targets, "mAP", resamples=resamples)


def test_ranks_differences_and_agreements_are_those_of_brute_force(store: Store) -> None:
    found = only(store, resamples=400)
    held = {(p, e): by_hand(e, p, 400) for p in ("linear", "mhca", "finetune") for e in SKILLS}
    assert found.probes[-1] == found.reference == "finetune"
    for probe in found.probes:
        values = {e: np.mean([r.value for r in store if (r.encoder, r.probe) == (e, probe)]) for e in SKILLS}
        for encoder, place in found.ranks(probe).items():
            assert place == 1 + sum(other > values[encoder] for other in values.values())
            assert found.standings[probe, encoder].value == pytest.approx(values[encoder])
    both = [(held[d.probe, d.a], held[d.probe, d.b]) for d in found.comparisons]
    apart = [replace(stats.paired_bootstrap(a, b), p=stats.tail(a, b)) for a, b in both]
    assert [d.difference for d in found.comparisons] == apart
    assert [d.p for d in found.comparisons] == stats.holm([d.p for d in apart]).tolist()
    assert len(found.comparisons) == 9
    for one, other in itertools.permutations(found.probes, 2):
        x, y = ([held[probe, e] for e in SKILLS] for probe in (one, other))
        moved = [[e.draws + e.value - np.median(e.draws) for e in side] for side in (x, y)]
        taus = [
            scipy.stats.kendalltau([d[r] for d in moved[0]], [d[r] for d in moved[1]]).statistic for r in range(400)
        ]
        agreement = found.agreements[one, other]
        assert agreement.value == scipy.stats.kendalltau([e.value for e in x], [e.value for e in y]).statistic
        assert (agreement.low, agreement.high) == pytest.approx(tuple(np.nanquantile(taus, [0.025, 0.975])))


def test_encoders_stand_in_the_order_of_fine_tuning_and_probes_by_strength(store: Store) -> None:
    found = only(store)
    assert list(found.encoders) == found.order("finetune")
    strength = [np.mean([found.standings[p, e].value for e in found.encoders]) for p in found.probes[:-1]]
    assert strength == sorted(strength)
    plant(store, GROUND, "late", {"linear": 3.0, "mhca": 3.0}, luck=9)
    assert only(store).encoders[0] == "late", "fine-tuning does not rank it, so all probes do"


def test_a_planted_reversal_that_the_clips_decide_is_reported(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    plant(store, GROUND, "a", {"linear": 2.0, "protobin": 0.6, "mean": 1.9}, luck=0)
    plant(store, GROUND, "b", {"linear": 0.6, "protobin": 2.0, "mean": 0.5}, luck=1)
    found = only(store)
    (change,) = found.reversals()
    assert change.decided
    words = verdict(found)
    assert words.startswith("The probe changes the ranking: a beats b under ")
    assert "and b beats a under protobin by " in words
    assert "after Holm's correction for 3 comparisons; likewise under " in words
    d = found.comparison("protobin", "b", "a").difference
    low, high = -d.high, -d.low
    assert 0 < low < high
    best = min(d.p for d in found.comparisons if (d.probe, d.leader) == ("protobin", "b"))
    said = f"by {-100 * d.value:.1f} points (95 % interval {100 * low:.1f} to {100 * high:.1f}, p = {best:.2g} after"
    assert said in words


def test_a_lead_under_one_probe_and_a_tie_under_the_other_is_no_change_beyond_doubt(tmp_path: Path) -> None:
    for luck in range(1, 9):
        store = Store(tmp_path / f"{luck}")
        plant(store, GROUND, "a", {"linear": 2.0, "protobin": 1.0})
        plant(store, GROUND, "b", {"linear": 0.6, "protobin": 1.0}, luck=luck)
        if only(store).comparison("protobin", "a", "b").leader == "b":
            break
    found = only(store)
    assert (found.comparison("linear", "a", "b").leader, found.comparison("protobin", "a", "b").leader) == ("a", "b")
    assert found.comparison("linear", "a", "b").decided
    (change,) = found.reversals()
    assert not change.decided
    start = "No probe changes the order of two encoders significantly: some probes order 1 of 1 pair"
    assert verdict(found).startswith(start)


def test_equally_skilled_encoders_with_other_luck_are_left_undecided(tmp_path: Path) -> None:
    decided = ordered_differently = 0
    for trial in range(12):
        store = Store(tmp_path / f"{trial}")
        for encoder in range(2):
            for number, probe in enumerate(("linear", "protobin")):
                luck = 100 * trial + 10 * encoder + number
                plant(store, GROUND, f"e{encoder}", {probe: 1.0}, seeds=1, luck=luck)
        found = only(store, resamples=200)
        ordered_differently += bool(found.reversals())
        decided += any(change.decided for change in found.reversals())
        if found.reversals():
            assert "some probes order 1 of 1 pair differently (e0 and e1), but none of them is decided" in verdict(
                found
            )
    assert decided == 0
    assert ordered_differently > 1


def test_encoders_that_all_probes_order_alike_are_said_to_be(store: Store) -> None:
    found = rank(store, select=lambda encoder, _, probe: encoder != "tiny" and probe != "mhca").rankings[0]
    assert found.reversals() == []
    firm = int(all(d.decided for d in found.comparisons))
    words = f"all probes order the pair alike; decided under every probe: {firm} of 1."
    assert verdict(found) == f"No probe changes the order of two encoders significantly: {words}"


def test_neighbours_are_joined_by_what_the_clips_decide(store: Store) -> None:
    found = only(store)
    for probe in found.probes:
        words = order(found, probe).split()
        assert words[::2] == found.order(probe)
        for one, sign, other in zip(words[::2], words[1::2], words[2::2], strict=False):
            assert sign == (">" if found.comparison(probe, one, other).decided else "≈")


def test_ties_share_their_rank_and_nobody_leads(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for encoder in ("a", "b"):
        plant(store, GROUND, encoder, {"linear": 1.0, "mean": 0.5})
    found = only(store)
    assert found.ranks("linear") == {"a": 1.5, "b": 1.5}
    assert {d.leader for d in found.comparisons} == {None}
    assert np.isnan(found.agreements["linear", "mean"].value)
    assert found.reversals() == []
    assert "τ" not in " ".join([verdict(found), order(found, "linear")])


def test_fewer_resamples_than_a_family_asks_for_by_counting_still_decide(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for luck, encoder in enumerate("abcd"):
        plant(store, GROUND, encoder, {"linear": 0.9 * luck, "mean": 0.8 * luck}, seeds=1, luck=luck)
    found = only(store, resamples=100)
    assert (
        len(found.comparisons) == 12 > 0.05 * 101
    )  # the least share that could be counted, times the family, is above 5 %
    assert all(d.decided for d in found.comparisons)


def folded(store: Store, encoder: str, skill: float, *, folds: int = 3, digest: Callable[[int], str] = str) -> None:
    for fold in range(folds):
        ground = Ground("esc", Ground.sown("esc", seed=fold).targets)
        protocol = {"fold": fold + 1, "dataset_digest": digest(fold)}
        skills = {"linear": skill, "mean": skill / 2}
        plant(store, ground, encoder, skills, protocol=protocol, lr=0.1 * (fold + 1), luck=fold)


@pytest.mark.parametrize("digest", [str, lambda _: "one for all"])
def test_folds_are_averaged_and_resampled_by_themselves(tmp_path: Path, digest: Callable[[int], str]) -> None:
    store = Store(tmp_path / "results")
    folded(store, "a", 1.5, digest=digest)
    folded(store, "b", 1.0, digest=digest)
    found = only(store, resamples=300)
    parts = []
    for fold in range(3):
        ground = Ground.sown("esc", seed=fold)
        held = [ground.scores(1.5, fold, seed) for seed in range(2)]
        parts.append(stats.bootstrap(held, ground.targets, "mAP", resamples=300, seed=fold))
    estimate = found.standings["linear", "a"].estimate
    assert estimate.value == pytest.approx(np.mean([p.value for p in parts]))
    np.testing.assert_allclose(estimate.per_seed, np.mean([p.per_seed for p in parts], 0))
    np.testing.assert_allclose(estimate.draws, np.mean([p.draws for p in parts], 0))
    assert (found.clips, found.dataset, found.encoders) == (450, "esc", ("a", "b"))
    assert np.corrcoef([p.draws for p in parts])[0, 1:] == pytest.approx([0, 0], abs=0.2)


def test_a_standing_that_lacks_a_fold_is_left_out_and_named(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    folded(store, "a", 1.5)
    folded(store, "b", 1.0)
    folded(store, "half", 2.0, folds=2)
    found = rank(store)
    assert found.rankings[0].encoders == ("a", "b")
    assert "half on esc under linear was measured on other clips than most" in found.left_out
    store.remove(next(r for r in store if (r.encoder, r.probe, r.protocol.fold) == ("a", "linear", 1)))
    assert "a on esc under linear does not have the same seeds and draws in every fold" in rank(store).left_out


def test_few_shot_draws_are_trainings_and_searched_rates_no_configurations(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for luck, encoder in enumerate(("a", "b")):
        for draw in range(3):
            protocol, skills = {"shots": 8, "draw": draw}, {"linear": 1.0 + luck + 0.1 * draw, "mean": 0.5}
            plant(store, GROUND, encoder, skills, seeds=1, protocol=protocol, lr=0.01 * (1 + draw + luck))
    found = only(store)
    assert set(found.probes) == {"linear", "mean"}
    estimate = found.standings["linear", "b"].estimate
    values = [r.value for r in store if (r.encoder, r.probe) == ("b", "linear")]
    np.testing.assert_allclose(sorted(estimate.per_seed), sorted(values))
    assert len(values) == 3
    for encoder in ("a", "b"):
        plant(store, GROUND, encoder, {"linear": 2.0}, protocol={"shots": 64}, lr=0.01)
    assert set(only(store).probes) == {"linear (shots=8)", "linear (shots=64)", "mean"}


def test_configurations_are_never_merged_and_a_lonely_one_is_named(store: Store) -> None:
    plant(store, GROUND, "tiny", {"linear": 1.4}, protocol={"norm": "layer"})
    found = rank(store)
    labels = {entry.probe for entry in standing_records(store)}
    assert {"linear", "linear (norm=layer)"} <= labels
    assert "scenes: only tiny has linear (norm=layer)" in found.left_out
    plant(store, GROUND, "whisper", {"linear": 1.4}, protocol={"norm": "layer"})
    assert set(only(store).ranks("linear (norm=layer)")) == {"tiny", "whisper"}


def test_one_training_with_two_settings_is_left_out(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for lr in (0.1, 0.2):
        plant(store, GROUND, "a", {"linear": 1.0}, lr=lr)
    plant(store, GROUND, "b", {"linear": 1.0})
    found = rank(store)
    assert found.rankings == ()
    assert found.left_out == (
        "a on scenes under linear has several records of the same training, with different settings",
    )


def test_namesakes_are_told_apart_by_their_digests(store: Store) -> None:
    plant(store, GROUND, "tiny", {"linear": 1.0}, protocol={"encoder_digest": "f" * 20})
    assert {"tiny (of tiny)", "tiny (ffffffff)"} <= set(only(store).encoders)
    other = Ground.sown("scenes", clips=90, seed=5)
    for luck, encoder in enumerate(("tiny", "whisper")):
        plant(store, other, encoder, {"linear": 1.0}, protocol={"dataset_digest": "e" * 20}, luck=luck)
    names = [(r.dataset, r.clips) for r in rank(store).rankings]
    assert names == [("scenes (eeeeeeee)", 90), ("scenes (of scene)", 150)]


def test_what_has_no_predictions_of_these_clips_is_left_out_and_named(store: Store) -> None:
    mute = next(iter(store))
    store.add(replace(mute, encoder="mute"))
    half = Predictions(GROUND.ids[:90], GROUND.scores(1.0, 3)[:90], GROUND.targets[:90], CLASSES[:6])
    store.add(replace(mute, encoder="half"), half)
    found = rank(store)
    assert set(found.rankings[0].encoders) == set(SKILLS)
    probe = mute.probe
    assert (
        f"mute on scenes under {probe} does not have predictions of the same clips for every training" in found.left_out
    )
    assert f"half on scenes under {probe} was measured on other clips than most" in found.left_out


def test_the_order_of_clips_in_a_record_does_not_matter(store: Store) -> None:
    before = only(store)
    mixed = np.random.default_rng(1).permutation(150)
    for record in list(store):
        held = store.predictions(record)
        assert held is not None
        ids = tuple(held.ids[i] for i in mixed)
        store.add(
            replace(record, encoder=f"{record.encoder}-again"),
            Predictions(ids, held.scores[mixed], held.targets[mixed], held.classes),
        )
    after = only(store)
    assert len(after.encoders) == 6
    for probe, encoder in before.standings:
        one, other = after.standings[probe, encoder], after.standings[probe, f"{encoder}-again"]
        np.testing.assert_array_equal(one.estimate.draws, other.estimate.draws)


def cells(tmp_path: Path) -> Store:
    store, rng = Store(tmp_path / "results"), np.random.default_rng(3)
    for number, dataset in enumerate(("scenes", "birds")):
        ground = Ground.sown(dataset, seed=number)
        for luck, encoder in enumerate(("whisper", "tiny", "random")):
            skills = {p: float(k / 4 + rng.normal() / 3) for k, p in enumerate(("mean", "linear", "mhca", "protobin"))}
            plant(store, ground, encoder, skills, seeds=3, luck=luck)
    return store


def test_wins_and_average_ranks_are_those_of_brute_force(tmp_path: Path) -> None:
    store = cells(tmp_path)
    board = rank(store).board
    assert board is not None
    assert board.probe_ranks is not None
    held: dict[tuple[str, str, str], list[float]] = {}
    for r in store:
        held.setdefault((r.encoder, r.dataset, r.probe), []).append(r.value)
    places = sorted({key[:2] for key in held})
    won = lambda one, other: np.mean(one) - np.mean(other) > max(np.std(one, ddof=1), np.std(other, ddof=1))  # noqa: E731
    for (i, one), (j, other) in itertools.permutations(enumerate(board.probes), 2):
        assert board.wins[i, j] == sum(won(held[*cell, one], held[*cell, other]) for cell in places)
        assert board.compared[i, j] == 6
    assert not board.wins.diagonal().any()
    assert 0 < board.wins.sum() < 36
    net = board.wins.sum(1) - board.wins.sum(0)
    assert net.tolist() == sorted(net, reverse=True)
    ranks = {
        p: np.mean([1 + sum(np.mean(held[*c, o]) > np.mean(held[*c, p]) for o in board.probes) for c in places])
        for p in board.probes
    }
    assert dict(zip(board.probe_ranks.probes, board.probe_ranks.ranking.ranks, strict=True)) == pytest.approx(ranks)
    assert board.probe_ranks.ranking.ranks.tolist() == sorted(board.probe_ranks.ranking.ranks)
    values = [[np.mean(held[*c, p]) for c in places] for p in board.probe_ranks.probes]
    assert board.probe_ranks.ranking.p == pytest.approx(scipy.stats.friedmanchisquare(*values).pvalue)
    q = scipy.stats.studentized_range.ppf(0.95, 4, np.inf) / np.sqrt(2)
    assert board.probe_ranks.ranking.critical == pytest.approx(q * np.sqrt(4 * 5 / (6 * 6)))
    rejects = board.probe_ranks.ranking.p < 0.05
    for one, other in itertools.permutations(board.probe_ranks.probes, 2):
        far = abs(ranks[one] - ranks[other]) > board.probe_ranks.ranking.critical
        assert (other in board.probe_ranks.different_from(one)) == (far and rejects)


def test_a_single_training_wins_nothing_and_is_named(tmp_path: Path) -> None:
    store = cells(tmp_path)
    for number, dataset in enumerate(("scenes", "birds")):
        plant(store, Ground.sown(dataset, seed=number), "tiny", {"cgp": 3.0}, seeds=1)
    found = rank(store)
    assert found.board is not None
    assert "cgp" not in found.board.probes
    assert (
        "a win needs two trainings of a probe, there is only one of cgp for tiny on birds, tiny on scenes"
        in found.left_out
    )
    assert "average ranks leave out cgp, which some pairs do not have" in found.left_out
    assert found.board.probe_ranks is not None
    assert found.board.probe_ranks.pairs == 6


def test_fine_tuning_takes_no_part_in_the_board(store: Store) -> None:
    board = rank(store).board
    assert board is not None
    assert set(board.probes) == {"linear", "mhca"}
    assert board.probe_ranks is None
    assert len(board_sentences(board)) == 1
    assert scoreboard([]) is None


def test_one_encoder_on_two_data_sets_has_a_board_and_no_ranking(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for number, dataset in enumerate(("scenes", "birds")):
        plant(store, Ground.sown(dataset, seed=number), "tiny", {"linear": 0.5, "mean": 1.5})
    found = rank(store)
    assert found.rankings == ()
    assert found.board is not None
    assert (found.board.probes, found.board.wins.tolist()) == (("mean", "linear"), [[0, 2], [0, 0]])


def test_fine_tuning_under_any_label_is_the_reference(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for luck, encoder in enumerate(("a", "b")):
        plant(store, GROUND, encoder, {"linear": 1.0 + luck}, luck=luck)
        plant(store, GROUND, encoder, {"lora": 2.0 + luck}, protocol={"probe": "finetune"}, luck=luck)
    found = only(store)
    assert (found.reference, found.probes) == ("lora", ("linear", "lora"))
    assert found.agreements["linear", "lora"].value == 1


def test_two_metrics_of_one_data_set_are_two_rankings(store: Store) -> None:
    for record in [r for r in store if r.probe == "linear"]:
        protocol = replace(record.protocol, options={"part": "again"})
        again = replace(record, metric="accuracy", metrics={"accuracy": 0.5}, protocol=protocol)
        store.add(again, store.predictions(record))
    assert [r.dataset for r in rank(store).rankings] == ["scenes, accuracy", "scenes, mAP"]


def test_an_empty_store_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="otoscope bench"):
        rank(Store(tmp_path))
