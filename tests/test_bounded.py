"""Extremes by an int8 product and a bound: value, index and gradient are exact for all kinds of tokens."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.ops import _bounded, _compiled, _scan, max_cosine, max_cosine_reference, min_max_dot

pytestmark = pytest.mark.skipif(not _compiled.has_integer_units(), reason="no C compiler, or no integer units here")


def gaussian(random, B, N, D):
    return torch.randn(B, N, D, generator=random)


def similar(random, B, N, D):
    return 50 * torch.randn(B, 1, D, generator=random) + torch.randn(B, N, D, generator=random)


def one_large_coordinate(random, B, N, D):
    tokens = torch.randn(B, N, D, generator=random)
    tokens[..., 0] *= 1000
    return tokens


def different_lengths(random, B, N, D):
    return torch.randn(B, N, D, generator=random) * 10 ** (6 * torch.rand(B, N, 1, generator=random) - 3)


def repeated(random, B, N, D):
    return torch.randn(B, 3, D, generator=random)[:, torch.randint(3, (N,), generator=random)]


def with_zeros(random, B, N, D):
    return torch.randn(B, N, D, generator=random) * (torch.rand(B, N, 1, generator=random) < 0.3)


KINDS = (gaussian, similar, one_large_coordinate, different_lengths, repeated, with_zeros)


def draw(kind, B, N, K, D, seed, binary=False, dtype=torch.float32):
    random = torch.Generator().manual_seed(seed)
    tokens, prototypes = kind(random, B, N, D).to(dtype), torch.randn(K, D, generator=random)
    prototypes = (torch.where(prototypes > 0, 1.0, -1.0) / D**0.5 if binary else prototypes).to(dtype)
    mask = torch.rand(B, N, generator=random) < 0.6
    mask[torch.arange(B), torch.randint(N, (B,), generator=random)] = True
    return tokens, prototypes, mask


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(KINDS),
    B=st.integers(1, 4),
    N=st.sampled_from([1, 2, 15, 16, 17, 63, 64, 65, 150]),
    K=st.integers(1, 9),
    D=st.sampled_from([1, 2, 15, 16, 33, 70, 200]),
    size=st.sampled_from([1e-9, 1.0, 1e9]),
    buffer=st.sampled_from([1, 100, _scan.BUFFER]),
    binary=st.booleans(),
    normalise=st.booleans(),
    masked=st.booleans(),
    seed=st.integers(0, 99),
)
def test_values_and_indices_are_those_of_all_products(kind, B, N, K, D, size, buffer, binary, normalise, masked, seed):
    tokens, prototypes, mask = draw(kind, B, N, K, D, seed, binary)
    tokens *= size
    mask = mask if masked else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("otoscope.ops._scan.BUFFER", buffer)
        both_extremes, maximum_only = (
            _bounded.scan(tokens, prototypes, mask, normalise, both) for both in (True, False)
        )
    assert maximum_only[2].numel() == maximum_only[3].numel() == 0
    length = tokens.double().norm(dim=2, keepdim=True)
    unit = tokens.double() / length.clamp_min(1e-12) if normalise else tokens.double()
    similarity = unit @ prototypes.double().T
    if masked:
        similarity[~mask] = torch.nan
    slack = 1e-5 * unit.norm(dim=2).amax() * prototypes.double().norm(dim=1)
    for value, index, sign in ((*both_extremes[:2], 1), (*both_extremes[2:], -1), (*maximum_only[:2], 1)):
        best = (sign * similarity).nan_to_num(-torch.inf).amax(1)
        assert ((sign * value.double() - best).abs() <= slack).all()
        at = similarity.gather(1, index[:, None])[:, 0]
        assert ((value.double() - at).abs() <= slack).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(KINDS),
    N=st.integers(1, 40),
    D=st.sampled_from([1, 15, 16, 33, 200]),
    binary=st.booleans(),
    seed=st.integers(0, 99),
)
def test_no_product_differs_from_the_rounded_one_by_more_than_the_bound(kind, N, D, binary, seed):
    tokens, prototypes, _ = draw(kind, 2, N, 7, D, seed, binary)
    centres = tokens.mean(1)
    z = _bounded._rounded(tokens, centres)
    p = _bounded._rounded(prototypes, torch.zeros(1, D))
    if z is None or p is None:
        assert not tokens.any()
        return
    exact = (tokens.double() - centres.double()[:, None]) @ prototypes.double().T
    rounded = (z.levels.double() * z.scale.double()[..., None]) @ (p.levels.double() * p.scale.double()[:, None]).T
    length = prototypes.double().norm(dim=1)
    bound = z.error.double()[..., None] * length + z.length.double()[..., None] * p.error.double()
    assert (length <= p.length.double() + p.error.double()).all()
    assert ((exact - rounded).abs() <= bound).all()
    assert z.levels.int().abs().max() <= 127


def exact_extremes(tokens, prototypes):
    products = tokens.double() @ prototypes.double().T
    return products.argmax(1), products.argmin(1)


@pytest.mark.parametrize("between", [28, 200])
@pytest.mark.parametrize("width", [40, 64, 75])
def test_rounding_errors_of_tokens_along_the_prototype_do_not_hide_the_extreme(width, between):
    """The best token is rounded towards the prototype's opposite and another one towards the prototype.

    Every coordinate is off by nearly half a level, which is as much as the inequality of Cauchy and Schwarz allows.
    With many tokens `between` them, both are in different blocks of the kernel, which it may leave out as a whole.
    """
    random = torch.Generator().manual_seed(0)
    for _ in range(20):
        sign = torch.where(torch.randn(width, generator=random) > 0, 1.0, -1.0)
        best = torch.randint(-100, 100, (width,), generator=random).float()
        other = best.clone()
        other[1 : 1 + int(0.8 * width)] += sign[1 : 1 + int(0.8 * width)]
        best[1:], other[1:] = best[1:] + 0.49 * sign[1:], other[1:] - 0.49 * sign[1:]
        best[0] = other[0] = 127
        far = torch.randint(-20, 20, (between, width), generator=random).float()
        far[:, 0] = -127 * sign[0]
        tokens = torch.cat([best[None], far, other[None]])
        tokens = torch.cat([tokens, -tokens])[None]  # their mean is zero
        prototypes = sign[None] / width**0.5
        _, argmax, _, argmin = _bounded.scan(tokens, prototypes, None, False, True)
        assert (argmax, argmin) == exact_extremes(tokens, prototypes)


@pytest.mark.parametrize("width", [40, 64, 75])
def test_rounding_errors_of_prototypes_along_a_token_do_not_hide_the_extreme(width):
    """The levels of the prototype rank two opposite tokens in the wrong order; its rounding errors correct it."""
    random = torch.Generator().manual_seed(1)
    for _ in range(20):
        best = 127 * torch.where(torch.randn(width, generator=random) > 0, 1.0, -1.0)
        other = torch.cat([best[:1], -best[1:]])
        levels = torch.zeros(width)
        chosen = 1 + torch.randperm(width - 1, generator=random)[: int(0.4 * width)]
        levels[chosen] = -best.sign()[chosen]
        prototypes = (levels + 0.49 * best.sign())[None]
        prototypes[0, 0] = 127 * best.sign()[0]
        tokens = torch.stack([best, other])[None]
        _, argmax, _, argmin = _bounded.scan(tokens, prototypes, None, False, True)
        assert (argmax, argmin) == exact_extremes(tokens, prototypes) == (torch.tensor([[0]]), torch.tensor([[1]]))


def test_random_tokens_need_no_second_product():
    tokens, prototypes, _ = draw(gaussian, 2, 512, 300, 256, 0)
    centres = tokens.mean(1)
    z, p = _bounded._rounded(tokens, centres), _bounded._rounded(prototypes, torch.zeros(1, 256))
    out = _scan.empty_extremes(tokens, 300, True, torch.float32)
    shift = prototypes @ centres.T
    assert _bounded._scan_rounded(z, p, shift, None, torch.empty(300 * 1024), out) == 0
    expected = _scan.scan(tokens, prototypes, None, False, True)
    for a, b in zip(out, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("kind", "rows"), [(repeated, 12), (gaussian, 0)])
def test_prototypes_with_too_many_candidates_are_computed_by_the_float32_product(kind, rows, monkeypatch):
    calls = []
    compare = _scan.scan_block
    monkeypatch.setattr(_scan, "scan_block", lambda rows, *rest: calls.append(len(rows)) or compare(rows, *rest))
    monkeypatch.setattr(_scan, "BUFFER", 200 * 4)
    tokens, prototypes, mask = draw(kind, 1, 200, 12, 64, 1)
    actual = _bounded.scan(tokens, prototypes, mask, True, True)
    assert sum(calls) == rows
    for a, b in zip(actual, _scan.scan(tokens, prototypes, mask, True, True), strict=True):
        torch.testing.assert_close(a, b)


def test_equal_tokens_give_the_first_valid_index():
    tokens = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0)).repeat(1, 4, 1)
    mask = torch.ones(2, 20, dtype=torch.bool)
    mask[1, :5] = False
    _, argmax, _, argmin = _bounded.scan(tokens, torch.randn(30, 64), mask, False, True)
    for index in (argmax, argmin):
        assert (index[0] < 5).all()
        assert ((index[1] >= 5) & (index[1] < 10)).all()


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_a_prototype_of_nan_gives_nan_and_padding_may_have_any_value(number):
    tokens, prototypes, _ = draw(gaussian, 2, 40, 3, 64, 2)
    broken = prototypes.clone()
    broken[1, 5] = torch.nan
    assert _bounded.scan(tokens, broken, None, True, False)[0].isnan().tolist() == [[False, True, False]] * 2
    mask = torch.ones(2, 40, dtype=torch.bool)
    mask[:, 7] = False
    padded = tokens.clone()
    padded[:, 7] = number
    for a, b in zip(*(_bounded.scan(t, prototypes, mask, False, True) for t in (padded, tokens)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("prototype_dtype", [torch.float32, torch.float16])
def test_dtypes(dtype, prototype_dtype):
    tokens, prototypes, mask = draw(gaussian, 3, 70, 5, 64, 4, dtype=dtype)
    prototypes = prototypes.to(prototype_dtype)
    actual = _bounded.scan(tokens, prototypes, mask, True, True)
    for a, b in zip(actual, _scan.scan(tokens, prototypes, mask, True, True), strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b)


def test_the_kernel_uses_this_path_where_it_is_faster_with_the_same_gradient(monkeypatch):
    calls = []
    scan = _bounded.scan
    monkeypatch.setattr(_bounded, "scan", lambda *arguments: calls.append(1) or scan(*arguments))
    tokens, prototypes, mask = draw(gaussian, 2, 300, 700, 256, 5)
    strided = tokens.transpose(0, 1).contiguous().transpose(0, 1)
    prototypes.requires_grad_()
    values, argmax = max_cosine(strided, prototypes, mask)
    expected, indices = max_cosine_reference(tokens, prototypes, mask)
    assert calls
    assert torch.equal(argmax, indices)
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-5)
    a, b = (torch.autograd.grad(v.square().sum(), prototypes)[0] for v in (values, expected))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_float64_and_small_clips_are_computed_by_the_float_product():
    tokens, prototypes, _ = draw(gaussian, 2, 512, 512, 64, 6)
    assert _bounded.is_faster(tokens, prototypes, False)
    assert _bounded.is_faster(tokens.half(), prototypes, False)
    assert not _bounded.is_faster(tokens, prototypes, True)
    assert not _bounded.is_faster(tokens.double(), prototypes, False)
    assert not _bounded.is_faster(tokens, prototypes.double(), False)
    assert not _bounded.is_faster(tokens[:, :8], prototypes, False)
    assert not _bounded.is_faster(tokens, prototypes[:1], False)
    assert min_max_dot(tokens.double(), prototypes.double())[0].dtype == torch.float64
