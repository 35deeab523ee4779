"""The kernels against their slow references, in special cases, and the memory that they need."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.ops import (
    _bounded,
    _compiled,
    _scan,
    extremes,
    max_cosine,
    max_cosine_reference,
    max_dot,
    min_max_cosine,
    min_max_cosine_reference,
    min_max_dot,
    sign_through,
    weighted_sum,
)
from otoscope.ops._scan import BUFFER
from otoscope.ops._selected import add_selected, selected_products

sizes = st.integers(1, 6)


def draw(B, N, K, D, seed, dtype=torch.float64):
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randn(B, N, D, generator=random, dtype=torch.float64).to(dtype)
    prototypes = torch.randn(K, D, generator=random, dtype=torch.float64).to(dtype).requires_grad_()
    mask = torch.rand(B, N, generator=random) < 0.7
    mask[torch.arange(B), torch.randint(N, (B,), generator=random)] = True
    return tokens, prototypes, mask


@settings(max_examples=40, deadline=None, derandomize=True)
@given(B=sizes, N=sizes, K=sizes, D=sizes, buffer=st.sampled_from([1, 5, 17, BUFFER]), seed=st.integers(0, 99))
def test_values_argmax_and_gradients_equal_the_reference(B, N, K, D, buffer, seed):
    tokens, prototypes, mask = draw(B, N, K, D, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("otoscope.ops._scan.BUFFER", buffer)
        actual = min_max_cosine(tokens, prototypes, mask)
    expected = min_max_cosine_reference(tokens, prototypes, mask)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    g = torch.randn(2, B, K, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    a, b = (torch.autograd.grad((out[0] * g[0] + out[2] * g[1]).sum(), prototypes)[0] for out in (actual, expected))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    values, argmax = max_cosine(tokens, prototypes, mask)
    torch.testing.assert_close(values, actual[2], rtol=0, atol=1e-12)
    assert torch.equal(argmax, actual[3])


@pytest.mark.skipif(_compiled.library() is None, reason="no C compiler here")
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    B=sizes,
    N=st.sampled_from([1, 2, 15, 16, 17, 40, 64]),
    K=sizes,
    D=st.sampled_from([1, 2, 31, 32, 33, 70]),
    threads=st.booleans(),
    levels=st.sampled_from([2, 1000]),
    seed=st.integers(0, 99),
)
def test_compiled_kernels_equal_torch(B, N, K, D, threads, levels, seed):
    """Values, first indices (few levels: many ties) and sums, with and without a mask, in one thread and in several."""
    random = torch.Generator().manual_seed(seed)
    scores = torch.randint(-levels, levels, (K, B, N), generator=random, dtype=torch.int32)
    factor = torch.rand(B, N, generator=random)
    _, _, mask = draw(B, N, K, D, seed)
    tokens, prototypes = torch.randn(B, N, D, generator=random), torch.randn(K, D, generator=random)
    index, weight = torch.randint(N, (B, K), generator=random), torch.randn(B, K, generator=random)

    def compute():
        extremes = []
        for values, scale in ((scores.float(), None), (scores.clone(), factor)):
            for valid in (None, mask):
                extremes += _scan.empty_extremes(tokens, K, True, torch.float32)
                _scan.reduce_block(values.clone(), valid, *extremes[-4:], scale)
        total = torch.ones(K, D)
        add_selected(tokens, weight, index, total)
        return [*extremes, selected_products(tokens, prototypes, index), total]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("otoscope.ops._compiled._MIN_PER_THREAD", 1 if threads else 1 << 40)
        actual = compute()
        patch.setattr("otoscope.ops._compiled.library", lambda: None)
        expected = compute()
    for a, b in zip(actual[:-2], expected[:-2], strict=True):
        assert torch.equal(a, b)
    for a, b in zip(actual[-2:], expected[-2:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)


def test_without_a_compiler_torch_computes_the_same(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", "no-such-compiler")
    assert _compiled.library.__wrapped__() is None
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    assert _compiled.library.__wrapped__() is None
    monkeypatch.delenv("CC")
    monkeypatch.setenv("OTOSCOPE_COMPILE", "0")
    assert _compiled.library.__wrapped__() is None
    monkeypatch.setattr(_compiled, "library", lambda: None)
    tokens, prototypes, mask = draw(3, 9, 5, 8, 0, torch.float32)
    actual, expected = max_cosine(tokens, prototypes, mask), max_cosine_reference(tokens, prototypes, mask)
    torch.testing.assert_close(actual, expected)


def test_a_prototype_of_nan_gives_nan():
    prototypes = torch.full((1, 4), torch.nan)
    for tokens in (torch.ones(1, 3, 4), torch.ones(1, 40, 4)):
        assert max_cosine(tokens, prototypes)[0].isnan().all()


def test_the_gradient_has_its_closed_form():
    tokens, prototypes, mask = draw(3, 5, 4, 6, 0)
    values, argmax = max_cosine(tokens, prototypes, mask)
    g = torch.randn_like(values)
    (gradient,) = torch.autograd.grad((values * g).sum(), prototypes)
    for k in range(4):
        z = torch.stack([tokens[b, argmax[b, k]] for b in range(3)])
        expected = (g[:, k, None] * z / z.norm(dim=1, keepdim=True)).sum(0)
        torch.testing.assert_close(gradient[k], expected, rtol=0, atol=1e-12)


def test_dot_forms_pass_gradients_to_tokens():
    tokens, prototypes, mask = draw(2, 4, 5, 3, 1)
    tokens.requires_grad_()
    assert torch.autograd.gradcheck(lambda z, p: max_dot(z, p, mask)[0], (tokens, prototypes))
    assert torch.autograd.gradcheck(lambda z, p: min_max_dot(z, p, mask)[::2], (tokens, prototypes))


def test_equal_tokens_give_the_first_index():
    tokens = torch.ones(2, 7, 3)
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[1, :3] = False
    low, argmin, high, argmax = min_max_cosine(tokens, torch.randn(4, 3), mask)
    assert torch.equal(low, high)
    for index in (argmin, argmax):
        assert index.tolist() == [[0] * 4, [3] * 4]


def test_ties_give_the_first_index_across_scales():
    tokens = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 4.0], [2.0, 0.0]]])
    assert max_cosine(tokens, torch.eye(2))[1].tolist() == [[0, 1]]


def test_one_token():
    tokens, prototypes, _ = draw(3, 1, 4, 5, 2)
    values, argmax = max_cosine(tokens, prototypes)
    assert argmax.eq(0).all()
    torch.testing.assert_close(values, torch.nn.functional.normalize(tokens[:, 0], dim=1) @ prototypes.T)


def test_non_contiguous_input():
    tokens, prototypes, mask = draw(4, 6, 5, 8, 3)
    strided = tokens.transpose(0, 1).contiguous().transpose(0, 1)
    wide = torch.cat([prototypes, prototypes], 1)[:, :8]
    assert not strided.is_contiguous()
    assert not wide.is_contiguous()
    actual, expected = max_cosine(strided, wide, mask), max_cosine(tokens, prototypes, mask)
    torch.testing.assert_close(actual, expected)
    gradients = [torch.autograd.grad(out[0].square().sum(), prototypes)[0] for out in (actual, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("prototype_dtype", [None, torch.float32])
def test_dtypes(dtype, prototype_dtype):
    tokens, prototypes, mask = draw(3, 9, 5, 16, 4, dtype)
    prototypes = prototypes.detach().to(prototype_dtype or dtype).requires_grad_()
    values, argmax = max_cosine(tokens, prototypes, mask)
    assert values.dtype == torch.promote_types(dtype, prototypes.dtype)
    exact = prototypes.detach().double().requires_grad_()
    expected, _ = max_cosine_reference(tokens.double(), exact, mask)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}.get(values.dtype, 2e-2)
    torch.testing.assert_close(values.double(), expected, rtol=tolerance, atol=tolerance)
    values.sum().backward()
    assert prototypes.grad.dtype == prototypes.dtype
    unit = torch.nn.functional.normalize(tokens.double(), dim=2)
    rows = torch.stack([unit[torch.arange(3), argmax[:, k]].sum(0) for k in range(5)])
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}.get(prototypes.dtype, 2e-2)
    torch.testing.assert_close(prototypes.grad.double(), rows, rtol=tolerance, atol=4 * tolerance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("buffer", "clips"), [(1, 1), (2 * 9 * 16, 2), (1 << 20, 5)])
def test_backward_converts_few_clips_of_half_precision_at_once(dtype, buffer, clips, monkeypatch):
    tokens, prototypes, mask = draw(5, 9, 7, 16, 8, dtype)
    prototypes = prototypes.detach().float().requires_grad_()
    (expected,) = torch.autograd.grad(min_max_cosine(tokens.float(), prototypes, mask)[2].square().sum(), prototypes)
    converted = []
    monkeypatch.setattr(_scan, "BUFFER", buffer)
    monkeypatch.setattr(
        extremes, "add_selected", lambda part, *rest: converted.append(part) or add_selected(part, *rest)
    )
    (gradient,) = torch.autograd.grad(min_max_cosine(tokens, prototypes, mask)[2].square().sum(), prototypes)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-4)
    assert {part.dtype for part in converted} == {torch.float32}
    assert max(len(part) for part in converted) == clips


def test_double_backward_is_refused():
    tokens, prototypes, mask = draw(2, 3, 4, 5, 5)
    (gradient,) = torch.autograd.grad(
        max_cosine(tokens, prototypes, mask)[0].square().sum(), prototypes, create_graph=True
    )
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


@pytest.mark.parametrize("kernel", [max_cosine, min_max_cosine])
def test_tokens_that_require_a_gradient_are_refused(kernel):
    tokens, prototypes, _ = draw(2, 3, 4, 5, 6)
    with pytest.raises(ValueError, match=r"is for frozen tokens.*_dot"):
        kernel(tokens.requires_grad_(), prototypes)


@pytest.mark.parametrize(
    ("tokens", "prototypes", "mask", "message"),
    [
        ((2, 3, 4), (5, 6), None, "prototypes"),
        *[
            (shape, (5, 4), None, rf"got {re.escape(str(list(shape)))} and \[5, 4\]")
            for shape in ((4,), (3, 4), (2, 3, 4, 4))
        ],
        *[((2, 3, 4), shape, None, r"got \[2, 3, 4\] and ") for shape in ((4,), (5, 3), (1, 4, 4))],
        ((2, 0, 4), (5, 4), None, "at least one token"),
        ((2, 3, 4), (5, 4), torch.ones(2, 4, dtype=torch.bool), "mask"),
        ((2, 3, 4), (5, 4), torch.ones(2, 3), r"mask must be bool \[2, 3\], got torch.float32 \[2, 3\]"),
        ((2, 3, 4), (5, 4), torch.ones(2, 3, 1, dtype=torch.bool), r"mask must be bool \[2, 3\], got torch.bool"),
    ],
)
def test_wrong_shapes_are_named(tokens, prototypes, mask, message):
    with pytest.raises(ValueError, match=message):
        max_cosine(torch.zeros(tokens), torch.zeros(prototypes), mask)


@pytest.mark.parametrize("kernel", [max_cosine, max_dot, min_max_cosine, min_max_dot])
def test_shapes_are_checked_by_every_kernel(kernel):
    with pytest.raises(ValueError, match="must be"):
        kernel(torch.zeros(2, 3, 4), torch.zeros(5, 3))
    with pytest.raises(ValueError, match="selection 'other'; allowed: 'exact', 'int8', a Screening"):
        kernel(torch.zeros(2, 3, 4), torch.zeros(5, 4), selection="other")


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_signs_can_be_mapped_over_any_dimension(dim):
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    x.data[0, 0, 0] = 0
    signs = torch.vmap(sign_through, in_dims=dim, out_dims=dim)(x)
    assert torch.equal(signs, torch.where(x >= 0, 1.0, -1.0))
    (gradient,) = torch.autograd.grad((signs * torch.arange(24).view(2, 3, 4)).sum(), x)
    assert torch.equal(gradient, torch.arange(24.0).view(2, 3, 4))


@pytest.mark.parametrize("dims", [(0, None), (1, None), (2, None), (None, 0), (None, 2), (0, 0), (3, 1)])
def test_weighted_sums_can_be_mapped_over_any_dimension(dims):
    random = torch.Generator().manual_seed(0)
    weights, tokens = torch.randn(2, 3, 5, generator=random), torch.randn(2, 5, 4, generator=random)
    sets = [(s + 1) * weights if dims[0] is not None else weights for s in range(6)]
    others = [(s + 2) * tokens if dims[1] is not None else tokens for s in range(6)]
    inputs = [
        parts[0] if dim is None else torch.stack(parts, dim) for parts, dim in zip((sets, others), dims, strict=True)
    ]
    result = torch.vmap(weighted_sum, in_dims=dims)(*inputs)
    torch.testing.assert_close(result, torch.stack([w @ t for w, t in zip(sets, others, strict=True)]))


@pytest.mark.parametrize(
    ("N", "D", "K", "both", "faster"),
    [
        (512, 64, 128, False, True),
        (512, 64, 127, False, False),
        (1023, 32, 128, False, False),
        (1024, 32, 128, True, False),
        (1024, 64, 128, True, True),
    ],
)
def test_the_bounded_product_is_used_for_large_clips_and_many_prototypes(N, D, K, both, faster, monkeypatch):
    tokens, prototypes = torch.zeros(1, N, D), torch.zeros(K, D)
    for units in (True, False):
        monkeypatch.setattr(_compiled, "has_integer_units", lambda u=units: u)
        assert _bounded.is_faster(tokens, prototypes, both) is (faster and units)
        assert not _bounded.is_faster(tokens.double(), prototypes, both)
        assert not _bounded.is_faster(tokens, prototypes.double(), both)


def test_a_block_has_as_many_products_as_fit_and_at_least_one_clip_and_prototype():
    for B in (1, 2, 5):
        for N in (1, 3, 7):
            for K in (1, 4, 9):
                for products in (0, 1, 6, 7, 20, 21, 27, 62, 63, 64, 1000):
                    k = max(k for k in range(1, K + 1) if k == 1 or k * N <= products)
                    b = max(b for b in range(1, B + 1) if b == 1 or b * k * N <= products)
                    assert _scan.block_sizes(B, N, K, products) == (k, b)


def test_no_tensor_of_size_clips_tokens_prototypes_is_saved():
    B, N, K, D = 8, 64, 32, 4
    tokens, prototypes, mask = draw(B, N, K, D, 7, torch.float32)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        max_cosine(tokens, prototypes, mask)
    assert saved
    assert max(t.numel() for t in saved) <= max(tokens.numel(), B * K) < B * N * K


def test_sign_through():
    x = torch.tensor([-2.0, -0.0, 0.0, 1e-9, 5.0], requires_grad=True)
    y = sign_through(x)
    assert y.tolist() == [-1.0, 1.0, 1.0, 1.0, 1.0]
    g = torch.arange(5.0)
    assert torch.equal(torch.autograd.grad(y, x, g)[0], g)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(B=sizes, L=sizes, D=sizes, seed=st.integers(0, 99))
def test_weights_shared_by_all_clips_get_the_gradient_of_the_sum(B, L, D, seed):
    random = torch.Generator().manual_seed(seed)
    layers = torch.randn(B, L, D, generator=random, dtype=torch.float64)
    weights = torch.randn(L, generator=random, dtype=torch.float64).requires_grad_()
    g = torch.randn(B, D, generator=random, dtype=torch.float64)
    actual = weighted_sum(weights.expand(B, 1, L), layers)[:, 0]
    expected = torch.einsum("l,bld->bd", weights, layers)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    a, b = (torch.autograd.grad(out, weights, g)[0] for out in (actual, expected))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
