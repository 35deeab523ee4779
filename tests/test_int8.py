"""Argmax chosen in int8: right up to rounding, exact in value and gradient."""

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
def test_the_chosen_token_is_the_best_up_to_the_error_of_rounding(B, N, K, D, buffer, seed, compiled):
    tokens, prototypes, mask = draw(B, N, K, D, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("otoscope.ops._scan.BUFFER", buffer)
        if not compiled:
            patch.setattr("otoscope.ops._compiled.library", lambda: None)
        values, argmax = max_cosine_int8(tokens, prototypes, mask)
    wanted, best = max_cosine_reference(tokens, prototypes, mask)
    assert mask.gather(1, argmax).all()
    error = D**0.5 * quantise(tokens).scale / tokens.norm(dim=2) / 2
    slack = error.gather(1, argmax) + error.gather(1, best) + 1e-6
    assert (values <= wanted + 1e-6).all()
    assert (values >= wanted - slack).all()


def test_values_and_gradient_are_exact_for_the_chosen_token():
    tokens, prototypes, mask = draw(3, 9, 5, 16, 0, torch.float64)
    values, argmax = max_cosine_int8(tokens, prototypes, mask)
    unit = tokens / tokens.norm(dim=2, keepdim=True)
    chosen = unit.gather(1, argmax[:, :, None].expand(-1, -1, 16))
    torch.testing.assert_close(values, (chosen * prototypes).sum(2), rtol=0, atol=1e-14)
    g = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (found,) = torch.autograd.grad((values * g).sum(), prototypes)
    torch.testing.assert_close(found, (chosen * g[:, :, None]).sum(0), rtol=0, atol=1e-13)


def test_tokens_that_int8_holds_exactly_give_what_max_cosine_gives():
    random = torch.Generator().manual_seed(2)
    levels = torch.randint(-126, 127, (4, 12, 8), generator=random).float()
    levels[:, :, 0] = 127
    tokens = levels * torch.rand(4, 12, 1, generator=random)
    _, prototypes, mask = draw(4, 12, 6, 8, 3)
    values, argmax = max_cosine_int8(tokens, prototypes, mask)
    wanted, best = max_cosine(tokens, prototypes, mask)
    assert torch.equal(argmax, best)
    torch.testing.assert_close(values, wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_dtypes_and_strides(dtype):
    tokens, prototypes, mask = draw(2, 7, 4, 16, 4, dtype)
    strided = tokens.transpose(0, 1).contiguous().transpose(0, 1)
    values, argmax = max_cosine_int8(strided, prototypes, mask)
    assert values.dtype == dtype
    wanted, _ = max_cosine_reference(tokens.double(), prototypes.detach().double() * (16**0.5) / 4, mask)
    torch.testing.assert_close(values.double(), wanted, rtol=2e-2, atol=2e-2)
    values.sum().backward()
    assert prototypes.grad.dtype == dtype
    assert torch.equal(argmax, max_cosine_int8(tokens, prototypes, mask)[1])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(B=sizes, N=sizes, K=sizes, D=sizes, seed=st.integers(0, 99))
def test_extremes_of_float_prototypes_are_best_up_to_the_error_of_rounding(B, N, K, D, seed):
    tokens, _, mask = draw(B, N, K, D, seed)
    prototypes = torch.randn(K, D, generator=torch.Generator().manual_seed(seed + 100))
    found = min_max_cosine(tokens, prototypes, mask, selection="int8")
    wanted = min_max_cosine_reference(tokens, prototypes, mask)
    unit = tokens / tokens.norm(dim=2, keepdim=True)
    tokens_loader = (quantise(tokens).scale / tokens.norm(dim=2)).amax(1)[:, None] * prototypes.abs().sum(1) / 2
    of_prototypes = quantise(prototypes).scale * unit.abs().sum(2).amax(1)[:, None] / 2
    slack = 2.1 * (tokens_loader + of_prototypes) + 1e-6
    for value, index, best, sign in zip(found[::2], found[1::2], wanted[::2], (-1, 1), strict=True):
        assert mask.gather(1, index).all()
        chosen = unit.gather(1, index[:, :, None].expand(-1, -1, D))
        torch.testing.assert_close(value, (chosen * prototypes).sum(2), rtol=0, atol=1e-5)
        assert (sign * (best - value) >= -1e-5).all()
        assert (sign * (best - value) <= slack).all()


def test_tokens_that_want_a_gradient_get_the_one_of_the_token_chosen():
    tokens, prototypes, mask = draw(2, 5, 3, 4, 7, torch.float64)
    tokens.requires_grad_()
    low, argmin, high, argmax = min_max_dot(tokens, prototypes, mask, selection="int8")
    g = torch.randn(2, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    (found,) = torch.autograd.grad((low * g[0] + high * g[1]).sum(), tokens)
    wanted = torch.zeros_like(tokens)
    for b in range(2):
        for k in range(3):
            wanted[b, argmin[b, k]] += g[0, b, k] * prototypes[k].detach()
            wanted[b, argmax[b, k]] += g[1, b, k] * prototypes[k].detach()
    torch.testing.assert_close(found, wanted.detach(), rtol=0, atol=1e-13)


def test_ties_give_the_first_valid_index_and_silence_is_a_token():
    tokens = torch.ones(2, 5, 4)
    mask = torch.ones(2, 5, dtype=torch.bool)
    mask[1, :2] = False
    prototypes = torch.full((1, 4), 0.5)
    assert max_cosine_int8(tokens, prototypes, mask)[1].tolist() == [[0], [2]]
    values, _ = max_cosine_int8(torch.zeros(1, 3, 4), prototypes)
    assert values.tolist() == [[0.0]]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(D=sizes, size=st.sampled_from([1e-30, 1.0, 1e30]), seed=st.integers(0, 99))
def test_quantise_is_off_by_half_a_level_at_most(D, size, seed):
    tokens = size * torch.randn(4, D, generator=torch.Generator().manual_seed(seed))
    held = quantise(tokens)
    assert held.values.dtype == torch.int8
    assert held.values.abs().amax(1).eq(127).all()
    assert ((held.float() - tokens).abs() <= held.scale[:, None] * 0.5001).all()


def test_what_cannot_be_done_is_refused():
    tokens, prototypes, mask = draw(2, 3, 4, 6, 6)
    with pytest.raises(ValueError, match="selection 'int4'; allowed: 'exact', 'int8'"):
        max_dot(tokens, prototypes, selection="int4")
    with pytest.raises(ValueError, match="mask"):
        max_cosine_int8(tokens, prototypes, mask[:1])
    with pytest.raises(ValueError, match="is for frozen tokens"):
        max_cosine_int8(tokens.requires_grad_(), prototypes)
