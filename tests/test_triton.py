"""The Triton kernel against torch, under Triton's interpreter: no GPU is needed."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from otoscope.ops import _scan, _triton_max, int8

needs_triton = pytest.mark.skipif(not _triton_max.INSTALLED, reason="Triton is not installed: pip install triton")


def interprets() -> bool:
    """Whether Triton's interpreter runs: that of Triton 3.6 converts arrays of one element, which NumPy 2.4 refuses."""
    try:
        return int(np.ones(1)) == 1
    except TypeError:
        return False


def draw(B, N, K, D, dtype=torch.float32):
    random = torch.Generator().manual_seed(0)
    tokens = torch.randn(B, N, D, generator=random).to(dtype)
    prototypes = torch.randn(K, D, generator=random).to(dtype)
    mask = torch.rand(B, N, generator=random) < 0.6
    mask[:, N // 2] = True
    return tokens, prototypes, mask


IN_FLOAT, IN_INT8 = (_triton_max.scan, _scan.scan), (_triton_max.scan_int8, int8.scan)
CASES = [(2, 37, 19, 21), (1, 1, 1, 1), (3, 16, 16, 16), (2, 5, 33, 40)]


def run_cases() -> None:
    """All cases, in a separate process: Triton decides when it is imported whether it interprets."""
    for B, N, K, D in CASES:
        tokens, prototypes, mask = draw(B, N, K, D)
        for normalise, both, tokens_mask in ((True, False, mask), (False, True, mask), (True, True, None)):
            compare(tokens, prototypes, tokens_mask, normalise, both, 1e-5)
            compare(tokens, prototypes, tokens_mask, normalise, both, 1e-5, IN_INT8)
    for dtypes in ((torch.float16, torch.float16), (torch.float16, torch.float32), (torch.float32, torch.float16)):
        tokens, prototypes, mask = draw(2, 20, 7, 24)
        compare(tokens.to(dtypes[0]), prototypes.to(dtypes[1]), mask, True, True, 2e-3)
        compare(tokens.to(dtypes[0]), prototypes.to(dtypes[1]), mask, True, True, 2e-3, IN_INT8)
    tokens, prototypes, mask = draw(2, 20, 7, 24)
    strided = tokens.transpose(0, 1).contiguous().transpose(0, 1)
    for pair in (IN_FLOAT, IN_INT8):
        compare(strided, prototypes.T.contiguous().T, mask.T.contiguous().T, True, True, 1e-5, pair)
        equal = torch.ones(2, 40, 4)
        _, argmax, _, argmin = pair[0](equal, torch.ones(3, 4), None, True, True)
        assert argmax.eq(0).all()
        assert argmin.eq(0).all()
    large = 127 * torch.ones(1, 3, 1200)  # float16 and TF32 cannot distinguish sums of 1.9e7
    large[0, 1, 0], large[0, 1, 1] = 126.0, 127.0
    assert _triton_max.scan_int8(large, large[:, 0], None, False, True)[3].tolist() == [[1]]


def compare(tokens, prototypes, mask, normalise, both, tolerance, pair=IN_FLOAT) -> None:
    actual, expected = (scan(tokens, prototypes, mask, normalise, both) for scan in pair)
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == b.dtype
        if a.is_floating_point():
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
        else:
            assert torch.equal(a, b)


@needs_triton
@pytest.mark.skipif(
    not interprets(), reason="Triton's interpreter does not work with this NumPy: pip install numpy<2.4"
)
def test_the_kernel_equals_torch_under_the_interpreter() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not torch.cuda.is_available() or not _triton_max.INSTALLED, reason="no card with Triton")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_kernel_equals_torch_on_the_card(dtype: torch.dtype) -> None:
    tokens, prototypes, mask = (t.cuda() for t in draw(3, 300, 70, 96, dtype))
    assert _triton_max.is_usable(tokens, prototypes)
    actual = _triton_max.scan(tokens, prototypes, mask, True, True)
    expected = _scan.scan(tokens, prototypes, mask, True, True)
    tolerance = 1e-4 if dtype == torch.float32 else 2e-2
    for a, b in zip(actual[::2], expected[::2], strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
    for index in actual[1::2]:
        assert mask.gather(1, index).all()
    assert _triton_max.is_usable(tokens, prototypes, True)
    actual = _triton_max.scan_int8(tokens, prototypes, mask, True, True)
    expected = int8.scan(*(t.cpu() for t in (tokens, prototypes, mask)), True, True)
    for a, b in zip(actual[::2], expected[::2], strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=tolerance, atol=tolerance)


def test_the_kernel_is_not_used_for_tensors_on_the_cpu() -> None:
    tokens, prototypes, _ = draw(1, 2, 3, 4)
    assert not _triton_max.is_usable(tokens, prototypes)
    assert not _triton_max.is_usable(tokens, prototypes, True)


if __name__ == "__main__":
    run_cases()
