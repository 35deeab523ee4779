"""Canaries: three clips that every worker encodes before it writes anything, so that no machine with another
environment writes into a bank.

The first worker stores their tokens. Later workers compare theirs: other weights, another front end or a broken device
change tokens by far more than rounding.
"""

from __future__ import annotations

import math
import platform
import time
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from otoscope.bank.parts import BankParts
from otoscope.bench.units.folder import PlanError
from otoscope.files import create_once
from otoscope.types import Clip

CANARIES = 3
"""Number of clips."""

TOLERANCE = {"float16": 2.0**-9, "bfloat16": 2.0**-7, "float32": 2.0**-12, "int8": 1 / 127}
"""Largest difference of a value relative to the largest value of the clip, for each dtype of a bank. For float16 and
bfloat16 it is the spacing of numbers at the largest value, or twice that, and for int8 one level. Kernels of different
devices differ by some 1e-5 in float32, and by some 1e-3 with TF32."""


def check_canaries(parts: BankParts, file: Path) -> float:
    """Encode the canaries, and compare their tokens with those of the first worker, or store them.

    Parameters
    ----------
    parts : the bank.
    file : the file of the tokens. It is written if it does not exist.

    Returns
    -------
    Seconds to decode and encode one clip by itself, which is more than a clip of a batch takes.

    Raises
    ------
    PlanError : when tokens differ by more than `TOLERANCE`. The message names encoder, machine, clip and difference.
    """
    encoded, seconds = _encode(parts)
    stored_here = not file.exists() and create_once(
        file, lambda path: save_file(encoded, path, {"machine": platform.node()})
    )
    if stored_here:
        return seconds
    with safe_open(file, "pt") as stored:
        machine = (stored.metadata() or {}).get("machine", "another machine")
        expected = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    identity = parts.identity
    for name, tokens in encoded.items():
        difference = _difference(tokens, expected.get(name))
        if difference > TOLERANCE[identity.dtype]:
            raise PlanError(
                f"encoder {identity.encoder!r} gives other tokens on {platform.node()} than on {machine}: a value of "
                f"clip {name!r} differs by {difference:.3g} of the largest value, allowed is "
                f"{TOLERANCE[identity.dtype]:.3g} for {identity.dtype}; use the same versions and precision on every "
                f"machine, or delete {file} and the bank to start again"
            )
    return seconds


def _encode(parts: BankParts) -> tuple[dict[str, Tensor], float]:
    """The tokens of each canary with the layers of the bank, float32, and the seconds of the fastest one."""
    encoded, seconds = dict[str, Tensor](), math.inf
    for clip in _canaries(parts):
        start = time.perf_counter()
        tokens = parts.encode(clip)
        seconds = min(seconds, time.perf_counter() - start)
        values = tokens.x[:, :, tokens.mask[0]].float().flatten()
        cls = torch.empty(0) if tokens.cls is None else tokens.cls.float().flatten()
        encoded[f"{clip.split}/{clip.id}"] = torch.cat([values, cls])
    return encoded, seconds


def _canaries(parts: BankParts) -> list[Clip]:
    """The first, the middle and the last clip of the first split."""
    clips = parts.clips[parts.identity.splits[0]]
    rows = dict.fromkeys(round(i * (len(clips) - 1) / (CANARIES - 1)) for i in range(CANARIES))
    return [clips[row] for row in rows]


def _difference(tokens: Tensor, expected: Tensor | None) -> float:
    """Largest difference of a value, relative to the largest value; infinite for tokens of another shape or NaN."""
    if expected is None or tokens.shape != expected.shape:
        return math.inf
    largest = float(expected.abs().max()) if expected.numel() else 0.0
    difference = float((tokens - expected).abs().max()) if expected.numel() else 0.0
    relative = difference / largest if largest else difference
    return relative if math.isfinite(relative) else math.inf
