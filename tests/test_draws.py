"""Stratification and few-shot draws: the algorithm of the paper, balance, and banks with few-shot draws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import otoscope.bank
from otoscope.bank import Bank
from otoscope.bench import evaluate
from otoscope.results import Store
from otoscope.sampling import (
    VALIDATION_CUT,
    TrainingSet,
    few_shot,
    split_validation,
    stratify,
    with_few_shot,
    with_validation,
)
from otoscope.train import TrainingConfig, fit
from otoscope.types import Clip
from toys import SIZES, Ear, Tones

LABELS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 30), st.integers(1, 5)), elements=st.integers(0, 1))
few_examples = settings(max_examples=25, deadline=None)


def reference_stratify(targets: np.ndarray, shares: list[float], seed: int) -> list[int]:
    """Algorithm 1 of Sechidis et al. in sets and lists, with the random choices of `stratify`."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(targets)).tolist()
    remaining = set(order)
    c = [r * len(targets) for r in shares]
    c_of = [[r * int(column.sum()) for column in targets.T] for r in shares]
    part = [-1] * len(targets)

    def choose(first: list[float], then: list[float]) -> int:
        top = [j for j, v in enumerate(first) if v > max(first) - 1e-6]
        top = [j for j in top if then[j] > max(then[i] for i in top) - 1e-6]
        return top[0] if len(top) == 1 else int(rng.choice(top))

    while any(targets[i].any() for i in remaining):
        counts = {label: sum(int(targets[i, label]) for i in remaining) for label in range(targets.shape[1])}
        label = min((n, label) for label, n in counts.items() if n)[1]
        for i in [i for i in order if i in remaining and targets[i, label]]:
            part[i] = j = choose([row[label] for row in c_of], c)
            remaining.remove(i)
            c[j] -= 1
            for other in np.flatnonzero(targets[i]):
                c_of[j][other] -= 1
    for i in [i for i in order if i in remaining]:
        part[i] = j = choose(c, c)
        c[j] -= 1
    return part


@few_examples
@given(LABELS, st.sampled_from([[0.5, 0.5], [0.8, 0.2], [0.25] * 4, [0.6, 0.3, 0.1]]), st.integers(0, 3))
def test_stratify_equals_the_algorithm_of_the_paper(targets: np.ndarray, shares: list[float], seed: int) -> None:
    assert stratify(targets, shares, seed=seed).tolist() == reference_stratify(targets, shares, seed)


@few_examples
@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.sampled_from([[0.8, 0.2], [0.2] * 5]))
def test_with_one_label_per_clip_a_part_differs_from_its_share_by_less_than_one_clip(
    labels: list[int], shares: list[float]
) -> None:
    targets = np.eye(5)[labels]
    part = stratify(targets, shares)
    for j, share in enumerate(shares):
        assert (np.abs(targets[part == j].sum(0) - share * targets.sum(0)) < 1).all()


def test_many_labels_are_split_more_evenly_than_at_random() -> None:
    rng = np.random.default_rng(0)
    targets = rng.random((300, 12)) < np.geomspace(0.02, 0.4, 12)
    expected = 0.2 * targets.sum(0)

    def unevenness(part: np.ndarray) -> float:
        return float(np.abs(targets[part == 1].sum(0) - expected).mean())

    part = unevenness(stratify(targets, [0.8, 0.2]))
    random_parts = [unevenness((rng.permutation(300) < 60).astype(int)) for _ in range(20)]
    assert part < 0.6 < min(random_parts)


@pytest.mark.parametrize("parts", [3, 10, 49])
def test_shares_may_miss_one_by_a_rounding_error(parts: int) -> None:
    shares = [1 / parts] * parts
    assert np.bincount(stratify(np.ones((2 * parts, 1)), shares)).tolist() == [2] * parts


@pytest.mark.parametrize("shares", [[0.5, 0.4], [0.5, 0.5 + 1e-8], [0.5, 0.5 - 1e-8], [1.2, -0.2], [1.0, 0.0], [[1.0]]])
def test_shares_that_do_not_sum_to_one_are_refused(shares: list[float]) -> None:
    with pytest.raises(ValueError, match="shares"):
        stratify(np.eye(4), shares)


@few_examples
@given(LABELS, st.integers(1, 6), st.integers(0, 2))
def test_a_draw_is_balanced_nested_and_distinct(targets: np.ndarray, shots: int, seed: int) -> None:
    rows = few_shot(targets, shots, seed=seed)
    assert len(set(rows.tolist())) == len(rows)
    counts = targets[rows].sum(0)
    assert (counts >= np.minimum(shots, targets.sum(0))).all()
    assert few_shot(targets, shots + 3, seed=seed)[: len(rows)].tolist() == rows.tolist()
    for i, row in enumerate(rows):  # when a clip is drawn, one of its classes has fewer shots than requested
        before = targets[rows[:i]].sum(0)
        assert (before[targets[row] > 0] < shots).any()


def test_a_draw_of_one_label_per_clip_is_exact_and_seeds_differ() -> None:
    targets = np.eye(3)[np.random.default_rng(0).integers(0, 3, 90)]
    assert targets[few_shot(targets, 8)].sum(0).tolist() == [8, 8, 8]
    assert few_shot(targets, 8).tolist() == few_shot(targets, 8).tolist() != few_shot(targets, 8, seed=1).tolist()
    with pytest.raises(ValueError, match="at least one"):
        few_shot(targets, 0)


@few_examples
@given(LABELS, st.data())
def test_stratify_keeps_groups_together_and_equals_the_paper_for_groups_of_one(
    targets: np.ndarray, data: st.DataObject
) -> None:
    groups = data.draw(st.lists(st.integers(0, 9), min_size=len(targets), max_size=len(targets)))
    part = stratify(targets, [0.7, 0.3], groups=groups)
    assert all(len(set(part[np.array(groups) == group])) == 1 for group in groups)
    single = stratify(targets, [0.7, 0.3], groups=list(range(len(targets))))
    assert single.tolist() == stratify(targets, [0.7, 0.3]).tolist()


def test_a_validation_cut_separates_speakers_and_keeps_shares_of_classes() -> None:
    rng = np.random.default_rng(0)
    speaker = np.repeat(np.arange(40), rng.integers(2, 20, 40))
    targets = np.eye(4)[rng.integers(0, 4, len(speaker))]
    train, validation = split_validation(targets, [(f"speaker {s}",) for s in speaker])
    assert sorted(train + validation) == list(range(len(speaker)))
    assert not set(speaker[train]) & set(speaker[validation])
    assert len(validation) == pytest.approx(VALIDATION_CUT.share * len(speaker), rel=0.1)
    assert targets[validation].sum(0) == pytest.approx(VALIDATION_CUT.share * targets.sum(0), rel=0.35)
    assert set(speaker[split_validation(targets)[0]]) & set(speaker[validation])


def test_a_validation_cut_ignores_groups_that_connect_all_clips() -> None:
    targets = np.eye(3)[np.arange(60) % 3]
    chained = [(f"recording {i}", f"recording {i + 1}") for i in range(60)]
    assert split_validation(targets, chained) == split_validation(targets)
    assert split_validation(targets, [("a",)] * 30 + [("b",)] * 30) == split_validation(targets)
    pairs = [(f"recording {i // 2}",) for i in range(60)]
    assert split_validation(targets, pairs) != split_validation(targets)


# Views


class Unsplit(Tones):
    """Tones without a validation split; two clips are from each tape."""

    name, splits = "unsplit", ("train", "test")

    def clips(self, split: str) -> list[Clip]:
        return [replace(clip, groups=(f"{split}-tape-{i // 2}",)) for i, clip in enumerate(super().clips(split))]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    path: Path = tmp_path_factory.mktemp("bank")
    return otoscope.bank.extract(Ear(), Unsplit(), path / "b", progress=False)


def test_a_missing_validation_split_is_cut_and_can_be_trained_on(bank: Bank, tmp_path: Path) -> None:
    view = with_validation(bank)
    train, validation = view.split("train"), view.split("validation")
    assert len(validation) == pytest.approx(VALIDATION_CUT.share * SIZES["train"], abs=1)
    assert sorted(train.ids + validation.ids) == sorted(bank.split("train").ids)
    whole = bank.split("train")
    rows = [whole.ids.index(name) for name in validation.ids]
    assert torch.equal(validation.tokens([2, 0]).x, whole.tokens([rows[2], rows[0]]).x)
    assert torch.equal(validation.pooled().x, whole.pooled().x[rows])
    assert torch.equal(validation.targets, whole.targets[rows])
    assert validation.events == tuple(whole.events[row] for row in rows)
    assert validation.groups == tuple(whole.groups[row] for row in rows)
    assert not set(validation.groups) & set(train.groups)
    assert tuple(clip.id for clip in TrainingSet(Unsplit(), cut=True).clips("validation")) == validation.ids
    again = with_validation(bank).split("validation")
    assert again.ids == validation.ids
    fitted = fit("linear", view, TrainingConfig(epochs=2))
    assert evaluate(fitted, bank).metrics == evaluate(fitted, view).metrics  # both have the same held-out split
    store = Store(tmp_path)
    predictions = store.predictions(evaluate(fitted, view, store=store))
    assert predictions is not None
    assert predictions.groups == tuple((f"test-tape-{i // 2}",) for i in range(SIZES["test"]))
    with pytest.raises(otoscope.bank.HeldOutError):
        view.split("test")


def test_few_shots_of_a_bank_with_a_cut_validation_split(bank: Bank) -> None:
    view = with_validation(bank)
    small, large = with_few_shot(view, 2), with_few_shot(view, 4)
    assert set(small.split("train").ids) < set(large.split("train").ids) < set(view.split("train").ids)
    assert (small.split("train").targets.sum(0) >= 2).all()
    assert small.split("validation").ids == view.split("validation").ids
    assert set(with_few_shot(view, 2, draw=1).split("train").ids) != set(small.split("train").ids)
    assert with_validation(small) is small
