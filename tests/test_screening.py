"""Candidates from a projection: values are exact, and so is the selection where all directions are kept."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.ops import (
    Screening,
    max_cosine,
    max_dot,
    min_max_cosine,
    min_max_cosine_reference,
    principal_directions,
)

sizes, widths = st.integers(1, 7), st.integers(2, 7)  # in one dimension all cosines are ties


def draw(B, N, K, D, seed):
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randn(B, N, D, generator=random, dtype=torch.float64)
    prototypes = torch.randn(K, D, generator=random, dtype=torch.float64).requires_grad_()
    mask = torch.rand(B, N, generator=random) < 0.6
    mask[torch.arange(B), torch.randint(N, (B,), generator=random)] = True
    return tokens, prototypes, mask


@settings(max_examples=30, deadline=None, derandomize=True)
@given(B=sizes, N=sizes, K=sizes, D=widths, groups=sizes, seed=st.integers(0, 99))
def test_with_all_directions_the_result_is_the_reference(B, N, K, D, groups, seed):
    tokens, prototypes, mask = draw(B, N, K, D, seed)
    screening = Screening(principal_directions(tokens, D), groups)
    actual = min_max_cosine(tokens, prototypes, mask, selection=screening)
    for a, b in zip(actual, min_max_cosine_reference(tokens, prototypes, mask), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(B=sizes, N=sizes, K=sizes, D=widths, seed=st.integers(0, 99))
def test_with_one_group_per_token_the_selection_is_exact_in_any_projection(B, N, K, D, seed):
    tokens, prototypes, mask = draw(B, N, K, D, seed)
    screening = Screening(principal_directions(tokens, 1), N)
    actual, expected = max_cosine(tokens, prototypes, mask, selection=screening), max_cosine(tokens, prototypes, mask)
    assert torch.equal(actual[1], expected[1])
    torch.testing.assert_close(actual[0], expected[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("groups", [1, 3, 7, 50])
def test_the_best_token_of_each_group_in_the_projection_is_compared_exactly(groups, normalise):
    tokens, prototypes, mask = draw(3, 20, 6, 8, 4)
    tokens = tokens * torch.linspace(0.2, 5, 20)[:, None]
    basis = principal_directions(tokens, 2)
    kernel = max_cosine if normalise else max_dot
    values, argmax = kernel(tokens, prototypes, mask, selection=Screening(basis, groups))
    compared = tokens / tokens.norm(dim=2, keepdim=True) if normalise else tokens
    prototypes = prototypes.detach()
    projected, exact = (compared @ basis) @ (prototypes @ basis).T, compared @ prototypes.T
    count = min(groups, 20)
    size = -(-20 // count)
    for b in range(3):
        for k in range(6):
            candidates = []
            for start in range(0, 20, size):
                valid = [n for n in range(start, min(start + size, 20)) if mask[b, n]]
                candidates += [max(valid, key=lambda n: float(projected[b, n, k]))] if valid else []
            best = max(candidates, key=lambda n: float(exact[b, n, k]))
            assert int(argmax[b, k]) == best
            torch.testing.assert_close(values[b, k], exact[b, best, k], rtol=0, atol=1e-12)


def test_value_and_gradient_are_exact_for_the_selected_token():
    tokens, prototypes, mask = draw(3, 20, 6, 8, 0)
    values, argmax = max_dot(tokens, prototypes, mask, selection=Screening(principal_directions(tokens, 2), 3))
    assert mask.gather(1, argmax).all()
    selected = tokens.gather(1, argmax[:, :, None].expand(-1, -1, 8))
    torch.testing.assert_close(values, (selected * prototypes).sum(2), rtol=0, atol=1e-12)
    assert (values <= max_dot(tokens, prototypes, mask)[0] + 1e-12).all()
    g = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (actual,) = torch.autograd.grad((values * g).sum(), prototypes)
    torch.testing.assert_close(actual, (selected * g[:, :, None]).sum(0), rtol=0, atol=1e-12)


def test_directions_are_those_of_the_largest_eigenvalues():
    random = torch.Generator().manual_seed(2)
    tokens = torch.randn(500, 6, generator=random) * torch.tensor([5.0, 1.0, 4.0, 0.1, 0.2, 0.3])
    basis = principal_directions(tokens, 2)
    torch.testing.assert_close(basis.T @ basis, torch.eye(2), rtol=0, atol=1e-5)
    assert basis.abs().argmax(0).tolist() == [0, 2]


def test_wrong_arguments_are_refused():
    tokens, prototypes, _ = draw(1, 3, 2, 4, 3)
    for rank in (0, 5):
        with pytest.raises(ValueError, match=r"rank .; tokens of width 4 allow ranks 1 \.\. 4"):
            principal_directions(tokens, rank)
    for basis, groups in ((torch.eye(4), 0), (torch.ones(4), 8), (torch.ones(2, 3), 8), (torch.ones(2, 1, 1), 8)):
        with pytest.raises(ValueError, match=r"needs a basis .* and at least one group, got "):
            Screening(basis, groups)
    assert Screening(torch.ones(2, 2), 1).groups == 1
    assert Screening(torch.eye(4)).groups == 8
    with pytest.raises(ValueError, match="width 3, these have width 4"):
        max_cosine(tokens, prototypes, selection=Screening(torch.eye(3)))
