"""Exact logistic regression against scikit-learn, its certificate, and its invariances."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from otoscope.ops.logistic import Design, NotFiniteError, Solution, solve, solver
from otoscope.ops.logistic import design as design_module
from otoscope.ops.logistic._conjugate_gradients import _System, newton_direction
from otoscope.ops.logistic.problem import MultiClass, MultiLabel
from otoscope.ops.logistic.solver import _Step
from otoscope.train import DivergedError, penalty_path
from otoscope.train._solutions import extrapolated
from otoscope.train.exact import LIMITS, cross_validate, fit_path

KINDS = ("multi-label", "multi-class")


def problem(n: int, width: int, classes: int, kind: str, *, condition: float = 1.0, seed: int = 0):
    """Features whose standard deviations span `condition` in a rotated basis, and targets that depend on them."""
    random = torch.Generator().manual_seed(seed)
    spread = torch.logspace(0, -np.log10(condition), width, dtype=torch.float64)
    axes = torch.linalg.qr(torch.randn(width, width, generator=random, dtype=torch.float64))[0]
    x = torch.randn(n, width, generator=random, dtype=torch.float64) * spread @ axes
    margin = x / x.std(0) @ torch.randn(width, classes, generator=random, dtype=torch.float64) / width**0.5
    margin = 2 * margin + torch.randn(n, classes, generator=random, dtype=torch.float64)
    y = (margin > 0.5).double() if kind == "multi-label" else torch.eye(classes, dtype=torch.float64)[margin.argmax(1)]
    return x, y


def objective(x, y, weight, bias, penalty, kind):
    """f as its definition says, [P]."""
    margin = x @ weight + bias
    if kind == "multi-label":
        loss = torch.nn.functional.binary_cross_entropy_with_logits(margin, y, reduction="none").mean(0)
        return loss + penalty / 2 * weight.square().sum(0)
    return (torch.nn.functional.cross_entropy(margin, y) + penalty / 2 * weight.square().sum())[None]


def by_sklearn(x, y, penalty, kind):
    """Weights [D, C] and bias [C] of scikit-learn's solution, solved far beyond its default tolerance."""
    options = {"C": 1 / (len(x) * penalty), "tol": 1e-11, "max_iter": 20_000, "solver": "newton-cg"}
    columns = y.T if kind == "multi-label" else [y.argmax(1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = [LogisticRegression(**options).fit(x.numpy(), column.numpy()) for column in columns]
    weight, bias = np.concatenate([m.coef_ for m in models]).T, np.concatenate([m.intercept_ for m in models])
    return torch.from_numpy(weight), torch.from_numpy(bias)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("penalty", [1e-1, 1e-3, 1e-6])
@pytest.mark.parametrize(("n", "width", "condition"), [(300, 20, 1.0), (80, 150, 1.0), (300, 40, 1e4)])
def test_the_objective_is_that_of_scikit_learn(kind, penalty, n, width, condition) -> None:
    x, y = problem(n, width, 4, kind, condition=condition)
    design = Design(x)
    solution = solve(design, y, penalty, kind=kind)
    standardised = (x - design.mean) / design.scale
    weight, bias = design.restore(solution.weight, solution.bias)
    ours = objective(standardised, y, weight * design.scale[:, None], bias + design.mean @ weight, penalty, kind)
    theirs = objective(standardised, y, *by_sklearn(standardised, y, penalty, kind), penalty, kind)
    assert bool(solution.converged.all())
    torch.testing.assert_close(solution.objective, ours, rtol=1e-9, atol=0)
    assert (ours <= theirs * (1 + 1e-6)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_gap_bounds_the_distance_to_the_minimum(kind) -> None:
    x, y = problem(120, 10, 3, kind)
    design = Design(x)
    best = solve(design, y, 1e-3, kind=kind, tolerance=1e-14)
    for tolerance in (1e-1, 1e-2, 1e-4):
        rough = solve(design, y, 1e-3, kind=kind, tolerance=tolerance)
        assert (rough.objective - best.objective <= rough.gap + 1e-15).all()


@settings(deadline=None, max_examples=25)
@given(
    kind=st.sampled_from(KINDS),
    factor=st.sampled_from([1e-3, 0.02, 50.0, 1e3]),
    shift=st.floats(-100, 100),
    seed=st.integers(0, 5),
)
def test_scale_and_shift_of_features_change_nothing(kind, factor, shift, seed) -> None:
    x, y = problem(60, 8, 3, kind, seed=seed)
    logits = []
    for features in (x, factor * x + shift * factor):
        design = Design(features)
        weight, bias = design.restore(*_weights(solve(design, y, 1e-2, kind=kind, tolerance=1e-12)))
        logits.append(features @ weight + bias)
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "width"), [(100, 12), (30, 50)])
def test_features_in_blocks_give_the_same_solution(kind, n, width, monkeypatch) -> None:
    x, y = problem(n, width, 3, kind)
    whole = Design(x)
    monkeypatch.setattr(design_module, "MAX_BYTES_IN_MEMORY", 0)
    blocks = Design(x, block=7)
    for ours, theirs in zip(
        whole.restore(*_weights(solve(whole, y, 1e-2, kind=kind, tolerance=1e-12))),
        blocks.restore(*_weights(solve(blocks, y, 1e-2, kind=kind, tolerance=1e-12))),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_start_near_the_solution_takes_fewer_steps() -> None:
    x, y = problem(200, 20, 3, "multi-label")
    design = Design(x)
    before = solve(design, y, 1e-3, kind="multi-label")
    cold, warm = (solve(design, y, 5e-4, kind="multi-label", start=start) for start in (None, before))
    assert warm.steps < cold.steps
    torch.testing.assert_close(cold.objective, warm.objective, rtol=1e-7, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_problem_at_its_optimum_takes_no_step_and_others_at_most_a_hundred(kind, monkeypatch) -> None:
    x, y = problem(40, 5, 3, kind)
    design = Design(x)
    solution = solve(design, y, 1e-2, kind=kind)
    assert 0 < solution.steps < 20
    assert solve(design, y, 1e-2, kind=kind, start=solution).steps == 0
    assert solve(design, torch.zeros(40, 3), 1e-2, kind="multi-label").steps == 0
    assert solve(design, y, 1e-2, kind=kind, tolerance=1e9).steps == 0
    for most in (1, 3):
        monkeypatch.setattr(solver, "MAX_NEWTON_STEPS", most)
        stopped = solve(design, y, 1e-2, kind=kind, tolerance=0.0)
        assert (stopped.steps, bool(stopped.converged.any())) == (most, False)


def test_a_start_continues_the_line_through_the_two_nearest_solutions() -> None:
    def solved(penalty: float, slope: float = 1.0) -> Solution:
        weight, one = slope * math.log(penalty) * torch.tensor([[1.0], [-2.0]]), torch.ones(1)
        return Solution(weight, weight[0] + 3, one, one, one.bool(), 5)

    near = {1e-2: solved(1e-2), 1e-4: solved(1e-4)}
    assert extrapolated({}, 1e-3) is None
    assert extrapolated({1e-2: near[1e-2]}, 1e-3) is near[1e-2]
    for penalty in (1e-1, 1e-3, 5e-4, 1e-5, 1e-6):
        start = extrapolated(near | {1e4: solved(1e4, 7.0)}, penalty)
        assert start is not None
        torch.testing.assert_close(start.weight, solved(penalty).weight)
        torch.testing.assert_close(start.bias, solved(penalty).bias)


def test_constant_features_and_constant_classes_are_harmless() -> None:
    x, y = problem(50, 5, 3, "multi-label")
    x[:, 2], y[:, 1] = 7.0, 0.0
    design = Design(x)
    solution = solve(design, y, 1e-2, kind="multi-label")
    weight, bias = design.restore(solution.weight, solution.bias)
    assert bool(solution.converged.all())
    assert bool(weight.isfinite().all())
    assert weight[2].abs().max() < 1e-9
    assert weight[:, 1].abs().max() == 0
    assert bias[1] < -4


@pytest.mark.parametrize("present", [[1, 2, 4], [3]])
@pytest.mark.parametrize("penalty", [1.0, 1e-3, 1e-6])
def test_classes_of_a_softmax_without_positives_are_below_the_optimum_of_the_others(present, penalty) -> None:
    x, some = problem(80, 6, len(present), "multi-class")
    y = torch.zeros(80, 6, dtype=torch.float64)
    y[:, present] = some
    design = Design(x)
    first = solve(design, y, 2 * penalty, kind="multi-class")
    absent = [c for c in range(6) if c not in present]
    for solution in (solve(design, y, penalty, kind="multi-class", start=start) for start in (None, first)):
        expected = solve(design, some, penalty, kind="multi-class")
        assert bool(solution.converged.all())
        torch.testing.assert_close(solution.objective, expected.objective, rtol=1e-7, atol=0)
        torch.testing.assert_close(solution.weight[:, present], expected.weight, rtol=1e-2, atol=1e-3)
        assert bool((solution.weight[:, absent] == 0).all())
        assert bool(solution.bias.isfinite().all())
        torch.testing.assert_close(
            solution.bias[absent], (solution.bias[present].min() - np.log(160)).expand(len(absent))
        )
        margin = 100 * design.times(solution.weight) + solution.bias  # also for clips that are far from the train clips
        assert set(margin.argmax(1).tolist()) <= set(present)


def test_weighted_positives_equal_repeated_ones() -> None:
    x, y = problem(60, 4, 1, "multi-label")
    positive = y[:, 0] > 0
    twice, twice_y = torch.cat([x, x[positive]]), torch.cat([y, y[positive]])
    design, repeated = Design(x), Design(twice)
    # the same standardisation and the same penalty for the sum of losses make both problems one
    repeated.mean, repeated.scale = design.mean, design.scale
    repeated._axes, repeated._z = design._axes, (twice - design.mean) / design.scale @ design._axes
    ours = solve(design, y, 1e-2, kind="multi-label", positive_weight=torch.tensor([2.0]), tolerance=1e-12)
    theirs = solve(repeated, twice_y, 1e-2 * len(x) / len(twice), kind="multi-label", tolerance=1e-12)
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_solved_is_refused() -> None:
    x, y = problem(20, 3, 2, "multi-label")
    with pytest.raises(ValueError, match="penalty must be above 0"):
        solve(Design(x), y, 0.0, kind="multi-label")
    with pytest.raises(ValueError, match="must sum to 1"):
        solve(Design(x), torch.ones(20, 2), 1.0, kind="multi-class")
    with pytest.raises(ValueError, match=r"\[n, C\] with n = 20"):
        solve(Design(x), y[:10], 1.0, kind="multi-label")
    with pytest.raises(ValueError, match="positive_weight belongs to multi-label problems; a multi-class problem has"):
        solve(Design(x), torch.eye(2).repeat(10, 1), 1.0, kind="multi-class", positive_weight=torch.ones(2))
    for folds in (torch.arange(19) % 2, torch.zeros(20), torch.zeros(20, 2)):
        message = (
            rf"the fold of each of 20 clips, and at least two folds; found {re.escape(str(list(folds.shape)))} and"
        )
        with pytest.raises(ValueError, match=message):
            cross_validate(x, y, folds, lambda _: 1.0, kind="multi-label")
    for validation in (x[:, :2], x[0], x[None]):
        with pytest.raises(ValueError, match=r"validation features must be \[m, 3\], found \["):
            fit_path(x, y, validation, lambda _: 1.0, kind="multi-label")
    x[3, 1] = torch.nan
    with pytest.raises(NotFiniteError, match="NaN or infinite"):
        Design(x)
    assert issubclass(NotFiniteError, ValueError)


def test_a_design_has_one_coordinate_for_each_direction_of_its_features() -> None:
    x, _ = problem(30, 4, 2, "multi-label")
    for features, width in (
        (x, 4),
        (torch.cat([x, x[:, :2], x[:, :1] + x[:, 3:]], 1), 4),
        (torch.cat([x, torch.ones(30, 1)], 1), 4),
        (x[:3], 2),
        (torch.cat([x[:5], x[:5]]), 4),
        (torch.cat([x] * 10, 1)[:8], 4),
    ):
        design = Design(features)
        assert design.width == width
        weight = torch.randn(width, 2, generator=torch.Generator().manual_seed(0)).double()
        original, bias = design.restore(weight, torch.ones(2).double())
        torch.testing.assert_close(features @ original + bias, design.times(weight) + 1)
        torch.testing.assert_close(design.transposed_times(features[:, :1]), _dense(design).T @ features[:, :1])


def _dense(design: Design) -> torch.Tensor:
    """The coordinates of all clips, [n, width]."""
    return design.times(torch.eye(design.width, dtype=torch.float64))


def test_blocks_of_features_have_64_mib_and_rows_may_be_chosen() -> None:
    x, _ = problem(30, 4, 2, "multi-label")
    assert Design(x)._block == (64 << 20) // (4 * 8)
    assert Design(x, dtype=torch.float32)._block == (64 << 20) // (4 * 4)
    assert Design(torch.rand(2, 3), block=5)._block == 5
    rows = torch.tensor([3, 7, 7, 20, 1, 0])
    for options in ({}, {"block": 4}, {"block": 4, "max_bytes": 0}):
        chosen, copied = Design(x, rows=rows, **options), Design(x[rows], **options)
        assert (len(chosen), chosen.width) == (6, copied.width)
        torch.testing.assert_close(chosen.mean, x[rows].mean(0))
        torch.testing.assert_close(chosen.scale, x[rows].std(0, correction=0))
        torch.testing.assert_close(_dense(chosen).abs(), _dense(copied).abs())
    for wrong in (torch.rand(3), torch.rand(0, 3), torch.rand(2, 3, 4)):
        with pytest.raises(ValueError, match=r"features must be \[N, D\] with n >= 1 rows, found \d rows of \["):
            Design(wrong)
    with pytest.raises(ValueError, match="found 0 rows of"):
        Design(x, rows=rows[:0])


# One Newton step


def step_of(kind, penalty=0.3, seed=0, *, scale=1.0, blocks=False):
    """A step of the solver at random weights, and its problem; positive targets weigh 2.5."""
    x, y = problem(40, 6, 3, kind, seed=seed)
    random = torch.Generator().manual_seed(seed)
    design = Design(x, block=7, max_bytes=0) if blocks else Design(x)
    parts = MultiClass(design, y) if kind == "multi-class" else MultiLabel(design, y, torch.full((3,), 2.5).double())
    weight, bias = (scale * torch.randn(*shape, generator=random).double() for shape in ((6, 3), (3,)))
    return _Step(parts, penalty, weight, bias), y


def objective_of(step, y, weight, bias):
    """f, [P], by its definition; differentiable."""
    margin = step.problem.design.times(weight) + bias
    norm = step.penalty / 2 * weight.square().sum(0)
    if step.problem.count == 1:
        return (torch.nn.functional.cross_entropy(margin, y) + norm.sum())[None]
    options = {"pos_weight": torch.full((3,), 2.5).double(), "reduction": "none"}
    return torch.nn.functional.binary_cross_entropy_with_logits(margin, y, **options).mean(0) + norm


@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_derivatives_of_a_step_are_those_of_the_objective(kind, blocks) -> None:
    step, y = step_of(kind, blocks=blocks)
    at = step.weight.clone().requires_grad_(), step.bias.clone().requires_grad_()
    value = objective_of(step, y, *at)
    torch.testing.assert_close(step.value, value.detach())
    slopes = torch.autograd.grad(value.sum(), at, create_graph=True)
    torch.testing.assert_close((step.slope_w, step.slope_b), tuple(slope.detach() for slope in slopes))
    direction = torch.randn(7, 3, generator=torch.Generator().manual_seed(5)).double()
    along = (slopes[0] * direction[:-1]).sum() + (slopes[1] * direction[-1]).sum()
    system = _System(step.problem, step.penalty, step.hessian, step.diagonal)
    product = torch.cat([part if part.ndim == 2 else part[None] for part in torch.autograd.grad(along, at)])
    torch.testing.assert_close(system.times(direction), product)
    by_bias = [torch.autograd.functional.hessian(lambda b: objective_of(step, y, step.weight, b).sum(), step.bias)]
    torch.testing.assert_close(step.diagonal, by_bias[0].diagonal())
    squares = step.problem.dot(step.slope_w, step.slope_w) / (2 * step.penalty)
    bound = squares + step.problem.dot(step.slope_b[None], step.slope_b[None] / step.diagonal)
    torch.testing.assert_close(step.bound, bound)


@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_direction_of_a_step_solves_the_newton_system(kind, blocks) -> None:
    step, _ = step_of(kind, blocks=blocks)
    slope = torch.cat([step.slope_w, step.slope_b[None]])
    direction = newton_direction(step.problem, step.penalty, step.hessian, step.diagonal, slope)
    system = _System(step.problem, step.penalty, step.hessian, step.diagonal)
    residual, first = system.times(direction) + slope, slope
    norms = [step.problem.dot(r, system.precondition(r)).sqrt() for r in (residual, first)]
    assert bool((norms[0] <= 0.1 * norms[1]).all())
    assert direction.dtype == slope.dtype


@pytest.mark.parametrize("kind", KINDS)
def test_the_preconditioner_is_the_inverse_hessian_of_clips_with_equal_curvature(kind) -> None:
    curvature = torch.tensor([0.1, 0.2, 0.3]).double()
    for blocks in (False, True):
        step, _ = step_of(kind, blocks=blocks)
        system = _System(step.problem, 0.3, lambda change: change * curvature, curvature)
        vector = torch.randn(7, 3, generator=torch.Generator().manual_seed(1)).double()
        torch.testing.assert_close(system.precondition(system.times(vector)), vector)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [1.0, 6.0, 40.0, -1.0])
def test_the_length_of_a_step_is_the_largest_power_of_a_half_that_lowers_the_objective_enough(kind, factor) -> None:
    step, y = step_of(kind, scale=3.0)
    step.find_step()
    d_w, d_b = (factor * part for part in step.direction)
    slope = step.problem.dot(step.slope_w, d_w) + step.problem.dot(step.slope_b[None], d_b[None])
    lengths = torch.zeros_like(slope)
    for halvings in reversed(range(30)):
        length = 0.5**halvings
        value = objective_of(step, y, step.weight + length * d_w, step.bias + length * d_b)
        lengths[value <= step.value + 1e-4 * length * slope] = length
    for found, length in zip(step._line_search(d_w, d_b).tolist(), lengths.tolist(), strict=True):
        assert found == length or max(found, length) < 1e-6, "shorter steps are a matter of rounding"


def test_a_step_is_halved_thirty_times_before_it_is_given_up() -> None:
    step, _ = step_of("multi-label")
    step.find_step()
    loss, lengths = step.problem.loss, []
    step.problem.loss = lambda margin: lengths.append(1) or loss(margin) + 1e3
    assert step._line_search(*step.direction).tolist() == [0.0] * 3
    assert len(lengths) == 30


class TestPath:
    def test_the_chosen_penalty_lies_beside_the_best_and_the_stronger_of_equals(self) -> None:
        x, y = problem(200, 10, 3, "multi-class")
        truth = y[100:].argmax(1)
        head = fit_path(
            x[:100], y[:100], x[100:], lambda s: float((s.argmax(1) == truth).double().mean()), kind=KINDS[1]
        )
        tried = [point for point in head.path if point.penalty != head.penalty]
        best = max(tried, key=lambda point: (point.validation, point.penalty))
        assert abs(np.log10(head.penalty / best.penalty)) <= 0.25
        assert head.converged

    def test_the_chosen_penalty_is_the_maximum_of_the_parabola_in_its_logarithm(self) -> None:
        x, y = problem(60, 5, 2, "multi-label")
        centre = -1.3
        exponents = iter([*np.arange(0, -3.5, -0.5), centre])
        head = fit_path(x, y, x, lambda _: -((next(exponents) - centre) ** 2), kind="multi-label")
        assert np.log10(head.penalty) == pytest.approx(centre)
        assert head.validation == 0

    @pytest.mark.parametrize("solver", ["validation", "folds"])
    def test_the_chosen_penalty_does_not_jump_between_equally_good_ones(self, solver) -> None:
        x, y = problem(60, 5, 2, "multi-label")
        chosen = []
        for difference in (-1e-9, 1e-9):
            scores = iter([0.1, 0.3, 0.5, 0.5 + difference, 0.2, 0.1, 0.1, 0.4])
            options = {"score": lambda _, s=scores: next(s), "kind": "multi-label"}
            if solver == "folds":
                chosen.append(cross_validate(x, y, torch.arange(60) % 3, **options))
            else:
                chosen.append(fit_path(x, y, x, **options))
        assert chosen[0].penalty == pytest.approx(chosen[1].penalty, rel=1e-6)
        assert chosen[0].penalty == pytest.approx(10**-1.25, rel=1e-6)
        torch.testing.assert_close(chosen[0].weight, chosen[1].weight, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize(("sign", "limit"), [(1, LIMITS[0]), (-1, LIMITS[1])])
    def test_a_path_whose_edge_wins_extends_itself_to_the_limit_and_says_so(self, sign, limit) -> None:
        x, y = problem(60, 5, 2, "multi-label")
        head = fit_path(x, y, x, lambda logits: sign * float(logits.square().mean()), kind="multi-label")
        assert head.at_edge
        assert 1 / 10**0.5 <= head.penalty / limit <= 10**0.5

    @pytest.mark.parametrize(
        ("score", "first", "last", "chosen"),
        [
            (lambda _: 0.5, 2.5, -1.5, 2.5),  # the strongest of equals; three more without a better score
            (lambda exponent: exponent, 2.5, -1.5, 2.5),
            (lambda exponent: -exponent, 0, -7.5, -7.5),
            (lambda exponent: -abs(exponent + 3), 0, -4, -3),
            (lambda exponent: -abs(exponent + 4), 0, -4.5, -4),
            (lambda exponent: -abs(exponent), 0.5, -1.5, 0),
        ],
    )
    def test_the_penalties_of_a_path_are_half_a_decade_apart(self, score, first, last, chosen) -> None:
        x, y = problem(60, 5, 2, "multi-label")
        penalties = []

        def solved(design, targets, penalty, **options):
            penalties.append(penalty)
            return solve(design, targets, penalty, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(penalty_path, "solve", solved)
            head = fit_path(x, y, x, lambda _: score(round(np.log10(penalties[-1]), 6)), kind="multi-label")
        exponents = np.log10([point.penalty for point in head.path])
        np.testing.assert_allclose(exponents, np.arange(first, last - 0.1, -0.5), atol=1e-9)
        assert np.log10(head.penalty) == pytest.approx(chosen)
        assert head.at_edge is (chosen in (first, last))
        assert penalties[:4] == pytest.approx([1, 10**-0.5, 0.1, 10**-1.5])
        assert len(penalties) == len(head.path), "each penalty is solved once"

    def test_a_best_penalty_inside_is_not_at_an_edge(self) -> None:
        x, y = problem(60, 5, 2, "multi-label")
        head = fit_path(x, y, x, lambda logits: -abs(float(logits.square().mean()) - 0.5), kind="multi-label")
        assert not head.at_edge

    def test_a_path_ends_after_penalties_that_do_not_improve_the_score(self) -> None:
        x, y = problem(60, 5, 2, "multi-label")
        scores = iter([0.1, 0.3, 0.1, 0.3, 0.1, 0.9])
        head = fit_path(x, y, x, lambda _: next(scores), kind="multi-label")
        assert [point.validation for point in head.path] == [0.1, 0.3, 0.1, 0.3, 0.1]
        assert head.penalty == pytest.approx(10**-0.5)

    @pytest.mark.parametrize(("n", "width"), [(90, 12), (40, 80)])
    def test_each_point_of_a_path_is_the_optimum_that_a_cold_start_reaches(self, n, width) -> None:
        x, y = problem(n, width, 3, "multi-label", condition=1e3)
        seen = []
        head = fit_path(x, y, x, lambda logits: seen.append(logits) or float(len(seen)), kind="multi-label")
        design = Design(x)
        for point, logits in list(zip(head.path, seen, strict=True))[::3]:
            solution = solve(design, y, point.penalty, kind="multi-label", tolerance=1e-12)
            weight, bias = design.restore(solution.weight, solution.bias)
            torch.testing.assert_close(logits.double(), x @ weight + bias, rtol=2e-2, atol=2e-2)

    def test_logits_are_those_of_the_folded_weights(self) -> None:
        x, y = problem(60, 5, 2, "multi-label")
        seen = []
        head = fit_path(x, y, x, lambda logits: seen.append(logits) or float(len(seen) == 3), kind="multi-label")
        torch.testing.assert_close(head.logits(x.float()), seen[2])

    def test_a_solution_whose_logits_are_not_finite_is_never_the_best(self, monkeypatch) -> None:
        x, y = problem(60, 5, 2, "multi-label")

        def damaged(design, targets, penalty, **options):
            solution = solve(design, targets, penalty, **options)
            return replace(solution, weight=solution.weight * (torch.nan if penalty < 0.02 else 1))

        monkeypatch.setattr(penalty_path, "solve", damaged)
        for sign in (1, -1):
            head = fit_path(x, y, x, lambda logits, s=sign: s * float(logits.square().mean()), kind="multi-label")
            assert np.isfinite(head.validation)
            assert head.penalty >= 0.02
            assert bool(head.logits(x.float()).isfinite().all())
        failed = [point for point in fit_path(x, y, x, lambda _: 1.0, kind="multi-label").path if point.penalty < 0.02]
        assert all(np.isnan(point.validation) and not point.converged for point in failed)
        lower_is_better = fit_path(x, y, x, lambda _: 1.0, kind="multi-label", sort_key=lambda score: -score)
        assert lower_is_better.penalty >= 0.02

    @pytest.mark.parametrize("folds", [None, 3])
    def test_a_path_without_finite_solution_is_a_divergence(self, folds) -> None:
        x, y = problem(60, 5, 2, "multi-label")
        options = {"kind": "multi-label", "positive_weight": torch.full((2,), torch.inf)}
        solver, third = (fit_path, x) if folds is None else (cross_validate, torch.arange(60) % folds)
        with pytest.raises(DivergedError, match=r"no finite solution: .* penalties from .* positive_weight is not too"):
            solver(x, y, third, lambda _: 1.0, **options)


def _weights(solution: Solution) -> tuple[torch.Tensor, torch.Tensor]:
    return solution.weight, solution.bias
