"""Tokens selected in int8: the index is right up to rounding, value and gradient are exact."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.ops import (
    max_cosine,
    max_cosine_reference,
    max_dot,
    min_max_cosine,
    min_max_cosine_reference,
    min_max_dot,
    quantise,
    sign_through,
)

sizes = st.integers(1, 9)
max_cosine_int8 = partial(max_cosine, selection="int8")


def draw(B, N, K, D, seed, dtype=torch.float32):
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randn(B, N, D, generator=random).to(dtype)
    prototypes = (sign_through(torch.randn(K, D, generator=random)) / D**0.5).to(dtype).requires_grad_()
    mask = torch.rand(B, N, generator=random) < 0.7
    mask[torch.arange(B), torch.randint(N, (B,), generator=random)] = True
    return tokens, prototypes, mask


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    B=sizes,
    N=sizes,
    K=sizes,
    D=sizes,
    buffer=st.sampled_from([1, 17, 1 << 20]),
    seed=st.integers(0, 99),
    compiled=st.booleans(),
)
def test_the_selected_token_is_the_best_up_to_the_rounding_error(B, N, K, D, buffer, seed, compiled):
    tokens, prototypes, mask = draw(B, N, K, D, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("otoscope.ops._scan.BUFFER", buffer)
        if not compiled:
            patch.setattr("otoscope.ops._compiled.library", lambda: None)
        values, argmax = max_cosine_int8(tokens, prototypes, mask)
    expected, best = max_cosine_reference(tokens, prototypes, mask)
    assert mask.gather(1, argmax).all()
    error = D**0.5 * quantise(tokens).scale / tokens.norm(dim=2) / 2
    slack = error.gather(1, argmax) + error.gather(1, best) + 1e-6
    assert (values <= expected + 1e-6).all()
    assert (values >= expected - slack).all()


def test_value_and_gradient_are_exact_for_the_selected_token():
    tokens, prototypes, mask = draw(3, 9, 5, 16, 0, torch.float64)
    values, argmax = max_cosine_int8(tokens, prototypes, mask)
    unit = tokens / tokens.norm(dim=2, keepdim=True)
    selected = unit.gather(1, argmax[:, :, None].expand(-1, -1, 16))
    torch.testing.assert_close(values, (selected * prototypes).sum(2), rtol=0, atol=1e-14)
    g = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (actual,) = torch.autograd.grad((values * g).sum(), prototypes)
    torch.testing.assert_close(actual, (selected * g[:, :, None]).sum(0), rtol=0, atol=1e-13)


def test_tokens_that_int8_represents_exactly_give_the_result_of_max_cosine():
    random = torch.Generator().manual_seed(2)
    levels = torch.randint(-126, 127, (4, 12, 8), generator=random).float()
    levels[:, :, 0] = 127
    tokens = levels * torch.rand(4, 12, 1, generator=random)
    _, prototypes, mask = draw(4, 12, 6, 8, 3)
    values, argmax = max_cosine_int8(tokens, prototypes, mask)
    expected, best = max_cosine(tokens, prototypes, mask)
    assert torch.equal(argmax, best)
    torch.testing.assert_close(values, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_dtypes_and_strides(dtype):
    tokens, prototypes, mask = draw(2, 7, 4, 16, 4, dtype)
    strided = tokens.transpose(0, 1).contiguous().transpose(0, 1)
    values, argmax = max_cosine_int8(strided, prototypes, mask)
    assert values.dtype == dtype
    expected, _ = max_cosine_reference(tokens.double(), prototypes.detach().double() * (16**0.5) / 4, mask)
    torch.testing.assert_close(values.double(), expected, rtol=2e-2, atol=2e-2)
    values.sum().backward()
    assert prototypes.grad.dtype == dtype
    assert torch.equal(argmax, max_cosine_int8(tokens, prototypes, mask)[1])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(B=sizes, N=sizes, K=sizes, D=sizes, seed=st.integers(0, 99))
def test_extremes_of_float_prototypes_are_the_best_up_to_the_rounding_error(B, N, K, D, seed):
    tokens, _, mask = draw(B, N, K, D, seed)
    prototypes = torch.randn(K, D, generator=torch.Generator().manual_seed(seed + 100))
    actual = min_max_cosine(tokens, prototypes, mask, selection="int8")
    expected = min_max_cosine_reference(tokens, prototypes, mask)
    unit = tokens / tokens.norm(dim=2, keepdim=True)
    token_error = (quantise(tokens).scale / tokens.norm(dim=2)).amax(1)[:, None] * prototypes.abs().sum(1) / 2
    prototype_error = quantise(prototypes).scale * unit.abs().sum(2).amax(1)[:, None] / 2
    slack = 2.1 * (token_error + prototype_error) + 1e-6
    for value, index, best, sign in zip(actual[::2], actual[1::2], expected[::2], (-1, 1), strict=True):
        assert mask.gather(1, index).all()
        selected = unit.gather(1, index[:, :, None].expand(-1, -1, D))
        torch.testing.assert_close(value, (selected * prototypes).sum(2), rtol=0, atol=1e-5)
        assert (sign * (best - value) >= -1e-5).all()
        assert (sign * (best - value) <= slack).all()


def test_the_gradient_of_tokens_goes_to_the_selected_token():
    tokens, prototypes, mask = draw(2, 5, 3, 4, 7, torch.float64)
    tokens.requires_grad_()
    low, argmin, high, argmax = min_max_dot(tokens, prototypes, mask, selection="int8")
    g = torch.randn(2, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    (actual,) = torch.autograd.grad((low * g[0] + high * g[1]).sum(), tokens)
    expected = torch.zeros_like(tokens)
    for b in range(2):
        for k in range(3):
            expected[b, argmin[b, k]] += g[0, b, k] * prototypes[k].detach()
            expected[b, argmax[b, k]] += g[1, b, k] * prototypes[k].detach()
    torch.testing.assert_close(actual, expected.detach(), rtol=0, atol=1e-13)


def test_ties_give_the_first_valid_index_and_zeros_are_allowed():
    tokens = torch.ones(2, 5, 4)
    mask = torch.ones(2, 5, dtype=torch.bool)
    mask[1, :2] = False
    prototypes = torch.full((1, 4), 0.5)
    assert max_cosine_int8(tokens, prototypes, mask)[1].tolist() == [[0], [2]]
    values, _ = max_cosine_int8(torch.zeros(1, 3, 4), prototypes)
    assert values.tolist() == [[0.0]]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(D=sizes, size=st.sampled_from([1e-30, 1.0, 1e30]), seed=st.integers(0, 99))
def test_quantise_is_off_by_at_most_half_a_level(D, size, seed):
    tokens = size * torch.randn(4, D, generator=torch.Generator().manual_seed(seed))
    rounded = quantise(tokens)
    assert rounded.values.dtype == torch.int8
    assert rounded.values.abs().amax(1).eq(127).all()
    assert ((rounded.float() - tokens).abs() <= rounded.scale[:, None] * 0.5001).all()


def test_wrong_arguments_are_refused():
    tokens, prototypes, mask = draw(2, 3, 4, 6, 6)
    with pytest.raises(ValueError, match="selection 'int4'; allowed: 'exact', 'int8'"):
        max_dot(tokens, prototypes, selection="int4")
    with pytest.raises(ValueError, match="mask"):
        max_cosine_int8(tokens, prototypes, mask[:1])
    with pytest.raises(ValueError, match="is for frozen tokens"):
        max_cosine_int8(tokens.requires_grad_(), prototypes)
