"""Growth of time and memory with clips, tokens, classes and prototypes: exponents and a drawing on logarithmic axes.

python benchmarks/growth.py            # a step of `protobin` and the convolution's; `knn`; reading a bank
python benchmarks/growth.py --small    # tiny sizes, to check that it runs
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

import neighbours
import otoscope.bank
from curves import Curve, draw
from measure import extra_memory, typical
from render import command
from rows import Figure, Power, Section
from steps import CONVOLUTION, OURS, TOY, step
from synthetic import Cut, Noise

BASE = {"clips": 16, "steps": 32, "freq": 8, "dim": 192, "classes": 25, "prototypes": 1600, "layers": 1}
AXES = {
    "clips": ("clips", (4, 8, 16, 32, 64, 128)),
    "tokens": ("steps", (8, 16, 32, 64, 128, 256)),
    "classes": ("classes", (25, 50, 100, 200, 400, 800)),
    "prototypes": ("prototypes", (200, 400, 800, 1600, 3200, 6400)),
}
"""For each axis the option of `steps.Problem` that grows, and its values; the other options are those of BASE."""
STORED = (8_000, 16_000, 32_000, 64_000, 128_000, 256_000)
READ = (32, 64, 128, 256, 512)
SMALL_BASE = TOY
SMALL_AXES = {
    "clips": ("clips", (2, 4, 8)),
    "tokens": ("steps", (2, 4, 8)),
    "classes": ("classes", (5, 10, 20)),
    "prototypes": ("prototypes", (20, 40, 80)),
}
LEAST = 1 << 16
"""Less memory than this many bytes cannot be measured; it is drawn as this value."""
COMPARED = """\
Time and extra memory of one training step of `protobin`, in this library and as a convolution, while one size grows
and the others are fixed. Memory is that of a later step, as in section 1. The exponent is the slope on logarithmic
axes over the larger half of the sizes: one for a cost proportional to the size, zero for a cost that does not depend
on it. The second table gives the time of `knn` for a growing number of stored clips, and the time of reading clips
from a bank."""
BOUNDS = """\
The time is that of the dense product, which is linear in clips, tokens and prototypes. An exponent below one shows a
part that does not grow, mostly the update of the weights. With more classes only the head and its update grow. The
convolution stores a table of all similarities, so that its memory is linear in clips, tokens and prototypes. The
library uses a work buffer of bounded size and stores one value and one index per clip and prototype, so that more
tokens, as in long clips, need no memory beyond the tokens themselves."""


@dataclass(frozen=True)
class Exponents:
    """Exponents of time and memory for one size."""

    against: Annotated[str, "grows"]
    sizes: Annotated[str, "from .. to"]
    time: Annotated[Power, "time, this library"]
    time_convolution: Annotated[Power, "time, convolution"]
    memory: Annotated[Power | None, "memory, this library"]
    memory_convolution: Annotated[Power | None, "memory, convolution"]


@dataclass(frozen=True)
class Exponent:
    """Exponent of the time of one operation."""

    what: Annotated[str, "what"]
    against: Annotated[str, "grows"]
    sizes: Annotated[str, "from .. to"]
    time: Annotated[Power, "time"]


def sections(small: bool) -> list[Section]:
    """Measure the curves; return their exponents and the drawing."""
    base, axes = (SMALL_BASE, SMALL_AXES) if small else (BASE, AXES)
    curves = [curve for way in (OURS, CONVOLUTION) for curve in _curves(way, base, axes)]
    exponents = [_exponents(axis, curves) for axis in axes]
    others = [_neighbours(STORED[:2] if small else STORED), _reading(READ[:2] if small else READ)]
    alt = "Time and extra memory of a training step against clips, tokens, classes and prototypes, logarithmic axes"
    drawing = Figure("growth.svg", alt, draw(curves))
    return [Section("5. Growth", COMPARED, [exponents, others], BOUNDS, figure=drawing)]


def _curves(way: str, base: Mapping[str, int], axes: Mapping[str, tuple[str, Sequence[int]]]) -> list[Curve]:
    """Measure time and memory of a step along every axis."""
    problems = {axis: [base | {option: value} for value in values] for axis, (option, values) in axes.items()}
    names = {"name": "protobin", "way": way}
    flat = [names | p for along in problems.values() for p in along]
    memories = iter(extra_memory("steps", "step", flat, warm=names | TOY))
    curves = []
    for axis, along in problems.items():
        sizes = [p["steps"] * p["freq"] if axis == "tokens" else p[axis] for p in along]
        curves.append(Curve(way, axis, "time", sizes, [typical(step("protobin", way, **p)) for p in along]))
        extra = [next(memories) for _ in along]
        if all(extra):
            curves.append(Curve(way, axis, "memory", sizes, [max(both[1], LEAST) for both in extra]))
    return curves


def slope(sizes: Sequence[float], values: Sequence[float]) -> Power:
    """Fit the exponent p of value ~ size^p over the larger half of the sizes, by least squares on logarithms.

    Parameters
    ----------
    sizes, values : sequences of float. Positive, in ascending order of the sizes.

    Returns
    -------
    Power. The exponent.
    """
    large = slice((len(sizes) - 1) // 2, None)
    return Power(np.polyfit(np.log(sizes[large]), np.log(values[large]), 1)[0])


def _exponents(axis: str, curves: Sequence[Curve]) -> Exponents:
    slopes = {(c.measured, c.way): slope(c.sizes, c.values) for c in curves if c.axis == axis}
    sizes = next(c.sizes for c in curves if c.axis == axis)
    kinds = [(measured, way) for measured in ("time", "memory") for way in (OURS, CONVOLUTION)]
    return Exponents(axis, _range(sizes), *(slopes.get(kind) for kind in kinds))


def _neighbours(counts: Sequence[int]) -> Exponent:
    times = [typical(neighbours.case(OURS, stored=n, queries=100, dim=192)) for n in counts]
    return Exponent("`knn`, 100 queries", "stored clips", _range(counts), slope(counts, times))


def _reading(counts: Sequence[int]) -> Exponent:
    """Measure the time of reading random rows of one bank."""
    data = Noise(clips=counts[-1], samples=16 * 8 * 96, rate=Cut.sample_rate, classes=2)
    with tempfile.TemporaryDirectory() as folder:
        split = otoscope.bank.extract(Cut(freq=8, dim=96), data, f"{folder}/bank", progress=False).split("train")
        order = torch.randperm(counts[-1], generator=torch.Generator().manual_seed(0)).tolist()
        times = [typical(lambda: split.tokens(order[:n])) for n in counts]  # noqa: B023
    return Exponent("reading a bank", "clips", _range(counts), slope(counts, times))


def _range(sizes: Sequence[int]) -> str:
    return f"{sizes[0]:,} .. {sizes[-1]:,}"


if __name__ == "__main__":
    command(sections, __doc__, None)
