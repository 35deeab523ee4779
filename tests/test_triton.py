"""The CUDA kernel against the blocked form, under Triton's interpreter: no card is needed, only Triton."""

import os
import subprocess
import sys

import pytest
import torch

from otoscope.ops import _scan, _triton_max, int8

needs_triton = pytest.mark.skipif(not _triton_max.INSTALLED, reason="Triton is not installed: pip install triton")


def draw(B, N, K, D, dtype=torch.float32):
    random = torch.Generator().manual_seed(0)
    tokens = torch.randn(B, N, D, generator=random).to(dtype)
    prototypes = torch.randn(K, D, generator=random).to(dtype)
    mask = torch.rand(B, N, generator=random) < 0.6
    mask[:, N // 2] = True
    return tokens, prototypes, mask


IN_FLOAT, IN_INT8 = (_triton_max.scan, _scan.scan), (_triton_max.scan_int8, int8.scan)
CASES = [(2, 37, 19, 21), (1, 1, 1, 1), (3, 16, 16, 16), (2, 5, 33, 40)]


def interpreted() -> None:
    """Every case, in a process of its own: Triton decides at import whether it interprets."""
    for B, N, K, D in CASES:
        tokens, prototypes, mask = draw(B, N, K, D)
        for normalise, both, use in ((True, False, mask), (False, True, mask), (True, True, None)):
            compare(tokens, prototypes, use, normalise, both, 1e-5)
            compare(tokens, prototypes, use, normalise, both, 1e-5, IN_INT8)
    for dtypes in ((torch.float16, torch.float16), (torch.float16, torch.float32), (torch.float32, torch.float16)):
        tokens, prototypes, mask = draw(2, 20, 7, 24)
        compare(tokens.to(dtypes[0]), prototypes.to(dtypes[1]), mask, True, True, 2e-3)
        compare(tokens.to(dtypes[0]), prototypes.to(dtypes[1]), mask, True, True, 2e-3, IN_INT8)
    tokens, prototypes, mask = draw(2, 20, 7, 24)
    strided = tokens.transpose(0, 1).contiguous().transpose(0, 1)
    for how in (IN_FLOAT, IN_INT8):
        compare(strided, prototypes.T.contiguous().T, mask.T.contiguous().T, True, True, 1e-5, how)
        equal = torch.ones(2, 40, 4)
        _, argmax, _, argmin = how[0](equal, torch.ones(3, 4), None, True, True)
        assert argmax.eq(0).all()
        assert argmin.eq(0).all()
    large = 127 * torch.ones(1, 3, 1200)  # sums of 1.9e7, which float16 and TF32 could not tell apart
    large[0, 1, 0], large[0, 1, 1] = 126.0, 127.0
    assert _triton_max.scan_int8(large, large[:, 0], None, False, True)[3].tolist() == [[1]]


def compare(tokens, prototypes, mask, normalise, both, tolerance, how=IN_FLOAT) -> None:
    found, wanted = (scan(tokens, prototypes, mask, normalise, both) for scan in how)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == theirs.dtype
        if ours.is_floating_point():
            torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
        else:
            assert torch.equal(ours, theirs)


@needs_triton
def test_the_kernel_is_the_blocked_form_under_the_interpreter() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not torch.cuda.is_available() or not _triton_max.INSTALLED, reason="no CUDA card with Triton")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_kernel_is_the_blocked_form_on_the_card(dtype: torch.dtype) -> None:
    tokens, prototypes, mask = (t.cuda() for t in draw(3, 300, 70, 96, dtype))
    assert _triton_max.is_usable(tokens, prototypes)
    found = _triton_max.scan(tokens, prototypes, mask, True, True)
    wanted = _scan.scan(tokens, prototypes, mask, True, True)
    tolerance = 1e-4 if dtype == torch.float32 else 2e-2
    for ours, theirs in zip(found[::2], wanted[::2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    for index in found[1::2]:
        assert mask.gather(1, index).all()
    assert _triton_max.is_usable(tokens, prototypes, True)
    found = _triton_max.scan_int8(tokens, prototypes, mask, True, True)
    wanted = int8.scan(*(t.cpu() for t in (tokens, prototypes, mask)), True, True)
    for ours, theirs in zip(found[::2], wanted[::2], strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=tolerance, atol=tolerance)


def test_what_the_kernel_cannot_take_goes_to_the_blocked_form() -> None:
    tokens, prototypes, _ = draw(1, 2, 3, 4)
    assert not _triton_max.is_usable(tokens, prototypes)
    assert not _triton_max.is_usable(tokens, prototypes, True)


if __name__ == "__main__":
    interpreted()
