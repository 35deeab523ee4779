"""Rankings of encoders: equality with brute force, significance, folds and few-shot draws."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from helpers_records import CLASSES, LabelledClips, add_folds, add_trainings
from otoscope import rank
from otoscope.metrics import stats
from otoscope.report.folds import fold_seed
from otoscope.report.rankings import EncoderRanking
from otoscope.report.scoreboard import scoreboard
from otoscope.report.standings import standing_records
from otoscope.report.text.rankings import board_sentences, order, verdict
from otoscope.report.variants import short_digest
from otoscope.results import Predictions, Store

CLIPS = LabelledClips.random("scenes")
SKILLS = {
    "whisper": {"linear": 1.1, "mhca": 1.0, "finetune": 1.6},
    "tiny": {"linear": 0.6, "mhca": 1.1, "finetune": 1.5},
    "random": {"linear": 0.3, "mhca": 0.5, "finetune": 1.1},
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "results")
    for noise_seed, (encoder, skills) in enumerate(SKILLS.items()):
        add_trainings(store, CLIPS, encoder, skills, noise_seed=noise_seed)
    return store


def only_ranking(store: Store, **options: int) -> EncoderRanking:
    (ranking,) = rank(store, **options).rankings
    return ranking


def test_encoders_with_the_same_scores_of_other_seeds_or_folds_tie() -> None:
    targets = np.eye(2)[np.zeros(12, dtype=int)]
    right = {hits: np.where(np.arange(12)[:, None] < hits, [1.0, 0.0], [0.0, 1.0]) for hits in (5, 11, 12)}
    orders = list(itertools.permutations(right))

    def of_seeds(hits: Sequence[int]) -> stats.Estimate:
        return stats.bootstrap([right[h] for h in hits], targets, "accuracy", "multi-class", resamples=10)

    def of_folds(hits: Sequence[int]) -> stats.Estimate:
        parts = [
            stats.bootstrap([right[h]], targets, "accuracy", "multi-class", resamples=10, seed=seed)
            for seed, h in enumerate(hits)
        ]
        return stats.averaged(parts)

    for estimated in (of_seeds, of_folds):
        equal = [estimated(hits) for hits in orders]
        assert {stats.improvement(one, equal[0]).value for one in equal} == {0.0}
        assert np.isnan(stats.kendall_tau(equal, equal).value)


def reference_estimate(encoder: str, probe: str, resamples: int) -> stats.Estimate:
    noise_seed, skill = list(SKILLS).index(encoder), SKILLS[encoder][probe]
    scores = [CLIPS.scores(skill, noise_seed, seed) for seed in range(2)]
    return stats.bootstrap(scores, CLIPS.targets, "mAP", resamples=resamples)


def test_ranks_differences_and_agreements_are_those_of_brute_force(store: Store) -> None:
    ranking = only_ranking(store, resamples=400)
    estimates = {(p, e): reference_estimate(e, p, 400) for p in ("linear", "mhca", "finetune") for e in SKILLS}
    assert ranking.probes[-1] == ranking.reference == "finetune"
    for probe in ranking.probes:
        values = {e: np.mean([r.value for r in store if (r.encoder, r.probe) == (e, probe)]) for e in SKILLS}
        for encoder, position in ranking.ranks(probe).items():
            assert position == 1 + sum(other > values[encoder] for other in values.values())
            assert ranking.standings[probe, encoder].value == pytest.approx(values[encoder])
    pairs = [(estimates[d.probe, d.a], estimates[d.probe, d.b]) for d in ranking.comparisons]
    differences = [replace(stats.paired_bootstrap(a, b), p=stats.tail(a, b)) for a, b in pairs]
    assert [d.difference for d in ranking.comparisons] == differences
    assert [d.p for d in ranking.comparisons] == stats.holm([d.p for d in differences]).tolist()
    assert len(ranking.comparisons) == 9
    for one, other in itertools.permutations(ranking.probes, 2):
        x, y = ([estimates[probe, e] for e in SKILLS] for probe in (one, other))
        centred = [[e.draws + e.value - np.median(e.draws) for e in side] for side in (x, y)]
        taus = [
            scipy.stats.kendalltau([d[r] for d in centred[0]], [d[r] for d in centred[1]]).statistic for r in range(400)
        ]
        agreement = ranking.agreements[one, other]
        assert agreement.value == scipy.stats.kendalltau([e.value for e in x], [e.value for e in y]).statistic
        assert (agreement.low, agreement.high) == pytest.approx(tuple(np.nanquantile(taus, [0.025, 0.975])))


def test_controls_are_not_ranked_but_named_unless_they_are_alone(store: Store) -> None:
    expected = rank(store, resamples=100)
    for encoder in ("tiny", "whisper"):
        for record in list(store):
            if record.encoder == encoder:
                protocol = replace(record.protocol, control=True, encoder_digest=f"random {encoder}")
                control = replace(record, encoder=f"{encoder}-random", control_of=encoder, protocol=protocol)
                store.add(control, store.predictions(record))
    ranked = rank(store, resamples=100)
    assert [r.encoders for r in ranked.rankings] == [r.encoders for r in expected.rankings]
    assert ranked.omitted == ("controls are not ranked: tiny-random, whisper-random", *expected.omitted)
    alone = rank(store, select=lambda encoder, *_: encoder.endswith("-random"), resamples=100)
    assert [r.encoders for r in alone.rankings] == [("whisper-random", "tiny-random")]


def test_encoders_are_ordered_by_fine_tuning_and_probes_by_their_mean_value(store: Store) -> None:
    ranking = only_ranking(store)
    assert list(ranking.encoders) == ranking.order("finetune")
    mean_values = [np.mean([ranking.standings[p, e].value for e in ranking.encoders]) for p in ranking.probes[:-1]]
    assert mean_values == sorted(mean_values)
    add_trainings(store, CLIPS, "late", {"linear": 3.0, "mhca": 3.0}, noise_seed=9)
    assert only_ranking(store).encoders[0] == "late", "fine-tuning does not rank it, so all probes do"


def test_a_significant_reversal_of_two_encoders_is_reported(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    add_trainings(store, CLIPS, "a", {"linear": 2.0, "protobin": 0.6, "mean": 1.9}, noise_seed=0)
    add_trainings(store, CLIPS, "b", {"linear": 0.6, "protobin": 2.0, "mean": 0.5}, noise_seed=1)
    ranking = only_ranking(store)
    (change,) = ranking.reversals()
    assert change.decided
    text = verdict(ranking)
    assert text.startswith("The probe changes the ranking: a beats b under ")
    assert "and b beats a under protobin by " in text
    assert "after Holm's correction for 3 comparisons; likewise under " in text
    d = ranking.comparison("protobin", "b", "a").difference
    low, high = -d.high, -d.low
    assert 0 < low < high
    best = min(d.p for d in ranking.comparisons if (d.probe, d.leader) == ("protobin", "b"))
    clause = f"by {-100 * d.value:.1f} points (95 % interval {100 * low:.1f} to {100 * high:.1f}, p = {best:.2g} after"
    assert clause in text


def test_a_lead_under_one_probe_and_a_tie_under_the_other_is_no_significant_change(tmp_path: Path) -> None:
    for noise_seed in range(1, 9):
        store = Store(tmp_path / f"{noise_seed}")
        add_trainings(store, CLIPS, "a", {"linear": 2.0, "protobin": 1.0})
        add_trainings(store, CLIPS, "b", {"linear": 0.6, "protobin": 1.0}, noise_seed=noise_seed)
        if only_ranking(store).comparison("protobin", "a", "b").leader == "b":
            break
    ranking = only_ranking(store)
    assert (ranking.comparison("linear", "a", "b").leader, ranking.comparison("protobin", "a", "b").leader) == (
        "a",
        "b",
    )
    assert ranking.comparison("linear", "a", "b").decided
    (change,) = ranking.reversals()
    assert not change.decided
    start = "No probe changes the order of two encoders significantly: some probes order 1 of 1 pair"
    assert verdict(ranking).startswith(start)


def test_equally_skilled_encoders_with_different_noise_are_not_decided(tmp_path: Path) -> None:
    decided = ordered_differently = 0
    for trial in range(12):
        store = Store(tmp_path / f"{trial}")
        for encoder in range(2):
            for number, probe in enumerate(("linear", "protobin")):
                noise_seed = 100 * trial + 10 * encoder + number
                add_trainings(store, CLIPS, f"e{encoder}", {probe: 1.0}, seeds=1, noise_seed=noise_seed)
        ranking = only_ranking(store, resamples=200)
        ordered_differently += bool(ranking.reversals())
        decided += any(change.decided for change in ranking.reversals())
        if ranking.reversals():
            assert "some probes order 1 of 1 pair differently (e0 and e1), but none of them is decided" in verdict(
                ranking
            )
    assert decided == 0
    assert ordered_differently > 1


def test_the_verdict_says_that_all_probes_order_the_encoders_alike(store: Store) -> None:
    ranking = rank(store, select=lambda encoder, _, probe: encoder != "tiny" and probe != "mhca").rankings[0]
    assert ranking.reversals() == []
    n_decided = int(all(d.decided for d in ranking.comparisons))
    text = f"all probes order the pair alike; decided under every probe: {n_decided} of 1."
    assert verdict(ranking) == f"No probe changes the order of two encoders significantly: {text}"


def test_the_sign_between_neighbours_shows_whether_their_difference_is_significant(store: Store) -> None:
    ranking = only_ranking(store)
    for probe in ranking.probes:
        words = order(ranking, probe).split()
        assert words[::2] == ranking.order(probe)
        for one, sign, other in zip(words[::2], words[1::2], words[2::2], strict=False):
            assert sign == (">" if ranking.comparison(probe, one, other).decided else "≈")


def test_tied_encoders_share_their_rank_and_neither_leads(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for encoder in ("a", "b"):
        add_trainings(store, CLIPS, encoder, {"linear": 1.0, "mean": 0.5})
    ranking = only_ranking(store)
    assert ranking.ranks("linear") == {"a": 1.5, "b": 1.5}
    assert {d.leader for d in ranking.comparisons} == {None}
    assert np.isnan(ranking.agreements["linear", "mean"].value)
    assert ranking.reversals() == []
    assert "τ" not in " ".join([verdict(ranking), order(ranking, "linear")])


def test_fewer_resamples_than_counting_needs_for_a_family_still_give_significance(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for noise_seed, encoder in enumerate("abcd"):
        add_trainings(
            store,
            CLIPS,
            encoder,
            {"linear": 0.9 * noise_seed, "mean": 0.8 * noise_seed},
            seeds=1,
            noise_seed=noise_seed,
        )
    ranking = only_ranking(store, resamples=100)
    # the smallest share that can be counted with 100 resamples, corrected for 12 comparisons, is above 5 %
    assert len(ranking.comparisons) == 12 > 0.05 * 101
    assert all(d.decided for d in ranking.comparisons)


@pytest.mark.parametrize("digest", [str, lambda _: "one for all"])
def test_folds_are_resampled_separately_and_averaged(tmp_path: Path, digest: Callable[[int], str]) -> None:
    store = Store(tmp_path / "results")
    add_folds(store, "a", 1.5, digest=digest)
    add_folds(store, "b", 1.0, digest=digest)
    ranking = only_ranking(store, resamples=300)
    parts = []
    for fold in range(3):
        clips = LabelledClips.random("esc", seed=fold)
        scores = [clips.scores(1.5, fold, seed) for seed in range(2)]
        parts.append(stats.bootstrap(scores, clips.targets, "mAP", resamples=300, seed=fold_seed(fold + 1)))
    estimate = ranking.standings["linear", "a"].estimate
    assert estimate.value == pytest.approx(np.mean([p.value for p in parts]))
    np.testing.assert_allclose(estimate.per_seed, np.mean([p.per_seed for p in parts], 0))
    np.testing.assert_allclose(estimate.draws, np.mean([p.draws for p in parts], 0))
    assert (ranking.clips, ranking.dataset, ranking.encoders) == (450, "esc", ("a", "b"))
    assert np.corrcoef([p.draws for p in parts])[0, 1:] == pytest.approx([0, 0], abs=0.2)


def test_a_standing_without_one_of_the_folds_is_left_out_and_named(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    add_folds(store, "a", 1.5)
    add_folds(store, "b", 1.0)
    add_folds(store, "half", 2.0, folds=2)
    rankings = rank(store)
    assert rankings.rankings[0].encoders == ("a", "b")
    assert "half on esc under linear was measured on different clips" in rankings.omitted
    store.remove(next(r for r in store if (r.encoder, r.probe, r.protocol.fold) == ("a", "linear", 1)))
    assert "a on esc under linear does not have the same seeds and draws in every fold" in rank(store).omitted


def test_few_shot_draws_are_trainings_and_searched_learning_rates_are_not_configurations(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for noise_seed, encoder in enumerate(("a", "b")):
        for draw in range(3):
            protocol, skills = {"shots": 8, "draw": draw}, {"linear": 1.0 + noise_seed + 0.1 * draw, "mean": 0.5}
            add_trainings(store, CLIPS, encoder, skills, seeds=1, protocol=protocol, lr=0.01 * (1 + draw + noise_seed))
    ranking = only_ranking(store)
    assert set(ranking.probes) == {"linear", "mean"}
    estimate = ranking.standings["linear", "b"].estimate
    values = [r.value for r in store if (r.encoder, r.probe) == ("b", "linear")]
    np.testing.assert_allclose(sorted(estimate.per_seed), sorted(values))
    assert len(values) == 3
    for encoder in ("a", "b"):
        add_trainings(store, CLIPS, encoder, {"linear": 2.0}, protocol={"shots": 64}, lr=0.01)
    assert set(only_ranking(store).probes) == {"linear (shots=8)", "linear (shots=64)", "mean"}


def test_configurations_are_not_merged_and_one_of_a_single_encoder_is_named(store: Store) -> None:
    add_trainings(store, CLIPS, "tiny", {"linear": 1.4}, protocol={"norm": "layer"})
    rankings = rank(store)
    labels = {entry.probe for entry in standing_records(store)}
    assert {"linear", "linear (norm=layer)"} <= labels
    assert "scenes: only tiny has linear (norm=layer)" in rankings.omitted
    add_trainings(store, CLIPS, "whisper", {"linear": 1.4}, protocol={"norm": "layer"})
    assert set(only_ranking(store).ranks("linear (norm=layer)")) == {"tiny", "whisper"}


def test_one_training_with_two_settings_is_left_out(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for lr in (0.1, 0.2):
        add_trainings(store, CLIPS, "a", {"linear": 1.0}, lr=lr)
    add_trainings(store, CLIPS, "b", {"linear": 1.0})
    rankings = rank(store)
    assert rankings.rankings == ()
    assert rankings.omitted == (
        "a on scenes under linear has several records of the same training, with different settings",
    )


def test_encoders_of_the_same_name_are_distinguished_by_their_digests(store: Store) -> None:
    add_trainings(store, CLIPS, "tiny", {"linear": 1.0}, protocol={"encoder_digest": "f" * 64})
    assert {f"tiny ({short_digest('of tiny')})", "tiny (ffffffff)"} <= set(only_ranking(store).encoders)
    other = LabelledClips.random("scenes", n_clips=90, seed=5)
    for noise_seed, encoder in enumerate(("tiny", "whisper")):
        add_trainings(
            store, other, encoder, {"linear": 1.0}, protocol={"dataset_digest": "e" * 64}, noise_seed=noise_seed
        )
    names = [(r.dataset, r.clips) for r in rank(store).rankings]
    assert names == [("scenes (eeeeeeee)", 90), (f"scenes ({short_digest('of scenes')})", 150)]


def test_encoders_without_predictions_of_the_same_clips_are_left_out_and_named(store: Store) -> None:
    first = next(iter(store))
    store.add(replace(first, encoder="no-predictions"))
    half = Predictions(CLIPS.ids[:90], CLIPS.scores(1.0, 3)[:90], CLIPS.targets[:90], CLASSES[:6])
    store.add(replace(first, encoder="half"), half)
    rankings = rank(store)
    assert set(rankings.rankings[0].encoders) == set(SKILLS)
    probe = first.probe
    assert (
        f"no-predictions on scenes under {probe} does not have predictions of the same clips for every training"
        in rankings.omitted
    )
    assert f"half on scenes under {probe} was measured on different clips" in rankings.omitted


def test_the_order_of_clips_in_a_record_does_not_matter(store: Store) -> None:
    before = only_ranking(store)
    permutation = np.random.default_rng(1).permutation(150)
    for record in list(store):
        predictions = store.predictions(record)
        assert predictions is not None
        ids = tuple(predictions.ids[i] for i in permutation)
        store.add(
            replace(record, encoder=f"{record.encoder}-again"),
            Predictions(ids, predictions.scores[permutation], predictions.targets[permutation], predictions.classes),
        )
    after = only_ranking(store)
    assert len(after.encoders) == 6
    for probe, encoder in before.standings:
        one, other = after.standings[probe, encoder], after.standings[probe, f"{encoder}-again"]
        np.testing.assert_array_equal(one.estimate.draws, other.estimate.draws)


def two_datasets(tmp_path: Path) -> Store:
    store, rng = Store(tmp_path / "results"), np.random.default_rng(3)
    for number, dataset in enumerate(("scenes", "birds")):
        clips = LabelledClips.random(dataset, seed=number)
        for noise_seed, encoder in enumerate(("whisper", "tiny", "random")):
            skills = {p: float(k / 4 + rng.normal() / 3) for k, p in enumerate(("mean", "linear", "mhca", "protobin"))}
            add_trainings(store, clips, encoder, skills, seeds=3, noise_seed=noise_seed)
    return store


def test_wins_and_average_ranks_are_those_of_brute_force(tmp_path: Path) -> None:
    store = two_datasets(tmp_path)
    board = rank(store).board
    assert board is not None
    assert board.probe_ranks is not None
    values: dict[tuple[str, str, str], list[float]] = {}
    for r in store:
        values.setdefault((r.encoder, r.dataset, r.probe), []).append(r.value)
    pairs = sorted({key[:2] for key in values})
    wins = lambda one, other: np.mean(one) - np.mean(other) > max(np.std(one, ddof=1), np.std(other, ddof=1))  # noqa: E731
    for (i, one), (j, other) in itertools.permutations(enumerate(board.probes), 2):
        assert board.wins[i, j] == sum(wins(values[*pair, one], values[*pair, other]) for pair in pairs)
        assert board.compared[i, j] == 6
    assert not board.wins.diagonal().any()
    assert 0 < board.wins.sum() < 36
    net = board.wins.sum(1) - board.wins.sum(0)
    assert net.tolist() == sorted(net, reverse=True)
    ranks = {
        p: np.mean(
            [1 + sum(np.mean(values[*pair, o]) > np.mean(values[*pair, p]) for o in board.probes) for pair in pairs]
        )
        for p in board.probes
    }
    assert dict(zip(board.probe_ranks.probes, board.probe_ranks.ranking.ranks, strict=True)) == pytest.approx(ranks)
    assert board.probe_ranks.ranking.ranks.tolist() == sorted(board.probe_ranks.ranking.ranks)
    means = [[np.mean(values[*pair, p]) for pair in pairs] for p in board.probe_ranks.probes]
    assert board.probe_ranks.ranking.p == pytest.approx(scipy.stats.friedmanchisquare(*means).pvalue)
    q = scipy.stats.studentized_range.ppf(0.95, 4, np.inf) / np.sqrt(2)
    assert board.probe_ranks.ranking.critical == pytest.approx(q * np.sqrt(4 * 5 / (6 * 6)))
    rejects = board.probe_ranks.ranking.p < 0.05
    for one, other in itertools.permutations(board.probe_ranks.probes, 2):
        significant = abs(ranks[one] - ranks[other]) > board.probe_ranks.ranking.critical
        assert (other in board.probe_ranks.different_from(one)) == (significant and rejects)


def test_a_probe_with_a_single_training_has_no_wins_and_is_named(tmp_path: Path) -> None:
    store = two_datasets(tmp_path)
    for number, dataset in enumerate(("scenes", "birds")):
        add_trainings(store, LabelledClips.random(dataset, seed=number), "tiny", {"cgp": 3.0}, seeds=1)
    rankings = rank(store)
    assert rankings.board is not None
    assert "cgp" not in rankings.board.probes
    assert (
        "a win needs two trainings of a probe, there is only one of cgp for tiny on birds, tiny on scenes"
        in rankings.omitted
    )
    assert "average ranks leave out cgp, which some pairs do not have" in rankings.omitted
    assert rankings.board.probe_ranks is not None
    assert rankings.board.probe_ranks.pairs == 6


def test_fine_tuning_is_not_in_the_scoreboard(store: Store) -> None:
    board = rank(store).board
    assert board is not None
    assert set(board.probes) == {"linear", "mhca"}
    assert board.probe_ranks is None
    assert len(board_sentences(board)) == 1
    assert scoreboard([]) is None


def test_one_encoder_on_two_data_sets_has_a_scoreboard_and_no_ranking(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for number, dataset in enumerate(("scenes", "birds")):
        add_trainings(store, LabelledClips.random(dataset, seed=number), "tiny", {"linear": 0.5, "mean": 1.5})
    rankings = rank(store)
    assert rankings.rankings == ()
    assert rankings.board is not None
    assert (rankings.board.probes, rankings.board.wins.tolist()) == (("mean", "linear"), [[0, 2], [0, 0]])


def test_fine_tuning_under_any_label_is_the_reference(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for noise_seed, encoder in enumerate(("a", "b")):
        add_trainings(store, CLIPS, encoder, {"linear": 1.0 + noise_seed}, noise_seed=noise_seed)
        add_trainings(
            store, CLIPS, encoder, {"lora": 2.0 + noise_seed}, protocol={"probe": "finetune"}, noise_seed=noise_seed
        )
    ranking = only_ranking(store)
    assert (ranking.reference, ranking.probes) == ("lora", ("linear", "lora"))
    assert ranking.agreements["linear", "lora"].value == 1


def test_two_metrics_of_one_data_set_are_two_rankings(store: Store) -> None:
    for record in [r for r in store if r.probe == "linear"]:
        protocol = replace(record.protocol, options={"part": "again"})
        again = replace(record, metric="accuracy", metrics={"accuracy": 0.5}, protocol=protocol)
        store.add(again, store.predictions(record))
    assert [r.dataset for r in rank(store).rankings] == ["scenes, accuracy", "scenes, mAP"]


def test_an_empty_store_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="otoscope bench"):
        rank(Store(tmp_path))
