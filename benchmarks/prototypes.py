"""A training step of `protobin` and `cgp` compared with a 1 x 1 convolution: time, memory, share of the peak speed.

python benchmarks/prototypes.py            # B = 16, N = 512, D = 768, K = 5,270 and 10,000, 527 classes
python benchmarks/prototypes.py --small    # tiny sizes, to check that it runs
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Annotated

import torch
from torch import Tensor

from measure import Peak, compare, extra_memory, machine_peak, typical
from otoscope.ops import max_cosine, min_max_dot
from otoscope.types import Tokens
from render import command
from rows import Bytes, Faster, Percent, Seconds, Section, Target
from steps import CONVOLUTION, INT8, OURS, TOY, Problem, forward_of, step

FULL = {
    "protobin": Problem(clips=16, steps=64, freq=8, dim=768, classes=527, prototypes=5270, layers=1),
    "cgp": Problem(clips=16, steps=64, freq=8, dim=768, classes=527, prototypes=10_000, layers=12),
}
WAYS = tuple((name, way) for way in (OURS, INT8) for name in ("protobin", "cgp"))
SMALL = {"protobin": Problem(**TOY), "cgp": Problem(**TOY | {"layers": 2})}
COMPARED = """\
One step of AdamW (forward, loss, backward, update) of the probe in this library is compared with the implementation
in public code: tokens normalised in every step, a 1 x 1 convolution that writes the similarity of every prototype
with every token, the maximum (for `cgp` minimum and maximum) over them, and autograd. Weights and batch are the
same, and the logits are equal (checked before timing). The library's step uses the optimiser of its training loop,
AdamW in one pass over the weights; the convolution uses the AdamW of torch with its defaults, as public code does.
In the rows in int8 (`selection="int8"`) an integer product chooses the token, and its value is computed in float.

Memory is the peak resident set during a step minus that before it, in a new process for each row: for the first
step, which also allocates gradients and moments of all parameters in either implementation, and for a later step,
where these exist. The target refers to the later step."""
BOUNDS = """\
The convolution computes the dense product in float32 and a second one of the same size for its gradient, although
the gradient of every clip and prototype goes to one token only. It also moves the table of similarities and its
gradient through memory several times. The library needs only the first product. Where the processor has integer
units, this is an integer product with an error bound, after which a few tokens of hundreds remain to be multiplied
in float32: the result is exact, and faster than any float32 product. Without such units the product in float32 takes
most of a step, which limits the ratio. The present limits are the integer product and the search for the remaining
tokens; minimum and maximum, and float prototypes, leave more tokens to search. In `cgp` both implementations also
mix all layers of the batch, forward and backward, and update many more weights. No kernel saves this work, and it
brings the ratio closer to one."""
PEAK_COMPARED = """\
The speed of a step relative to the fastest matrix product of torch on this machine, in float32 and in int8, both
measured here. The work of a row is its dense products. Traffic counts every operand and every table once for each
time that it must move through memory if nothing stays in cache. The roofline is the larger of two times: the work at
the float32 peak, and the traffic at the speed of a copy. No float32 implementation can be faster. The share of the
int8 peak shows what could still be gained with integer units."""
PEAK_BOUNDS = """\
Rows with much work per byte are limited by arithmetic: the product of prototypes and tokens reuses each operand
hundreds of times. Where the share of the float32 peak exceeds 100 %, the product ran on integer units: to exclude
tokens in the exact rows, to choose them in the other rows. These rows stay below the int8 peak because every product
is read once more while it is in cache and, in the exact rows, because of the second pass and the tokens that are
multiplied one by one in float32. Without integer units the exact rows cannot exceed 100 %. A step adds work that is
not a product: the gather of the backward pass, the update of every weight and its two moments (limited by memory),
and for `cgp` the mixture of layers."""


@dataclass(frozen=True)
class Memory:
    """Extra memory of one step."""

    what: Annotated[str, "what"]
    first: Annotated[Bytes | None, "first step"]
    later: Annotated[Bytes | None, "a later step"]
    share: Annotated[float | None, "later, share of the convolution's"]


@dataclass(frozen=True)
class Reached:
    """Work and traffic of one operation, and its speed relative to the peak of the machine."""

    what: Annotated[str, "what"]
    work: Annotated[float, "Gflop in products"]
    traffic: Annotated[Bytes, "traffic"]
    intensity: Annotated[float, "flop per byte"]
    roofline: Annotated[Seconds, "roofline, float32"]
    took: Annotated[Seconds, "took"]
    float32: Annotated[Percent, "share of float32 peak"]
    int8: Annotated[Percent, "of int8 peak"]


@dataclass(frozen=True)
class Limits:
    """Peak speeds of the machine."""

    float32: Annotated[float, "float32 product, Gflop/s"]
    int8: Annotated[float, "int8 product, Gop/s"]
    bandwidth: Annotated[float, "copy, GB/s"]


def sections(small: bool) -> list[Section]:
    """Measure both sections: relative to the convolution, and relative to the peak of the machine."""
    problems = SMALL if small else FULL
    times = {(name, way): _time(name, way, problems[name]) for name, way in WAYS}
    against = _against_convolution(problems, times)
    peak = machine_peak((64,) if small else (1024, 3072), 1 << (20 if small else 29))
    return [against, _share_of_peak(problems, times, peak)]


def _time(name: str, way: str, problem: Problem) -> Faster:
    """Compare a step with that of the convolution, after a check that the logits are equal."""
    tokens, _ = problem.batch()
    logits, reference = (_logits(name, w, problem, tokens) for w in (way, CONVOLUTION))
    torch.testing.assert_close(logits, reference, rtol=1e-4, atol=1e-2 if way == INT8 else 1e-4)
    del tokens
    options = asdict(problem)
    what = f"{_label(name, way)}: {problem.description()}"
    return compare(what, step(name, way, **options), step(name, CONVOLUTION, **options))


def _logits(name: str, way: str, problem: Problem, tokens: Tokens) -> Tensor:
    torch.manual_seed(0)
    with torch.no_grad():
        probe = problem.probe(name, way)
        return forward_of(name, way, probe)(tokens)


def _against_convolution(problems: dict[str, Problem], times: dict[tuple[str, str], Faster]) -> Section:
    plain = {name: _memory(name, CONVOLUTION, problem) for name, problem in problems.items()}
    memories, targets = [], []
    for (name, way), row in times.items():
        memory, other = _memory(name, way, problems[name]), plain[name]
        share = memory[1] / other[1] if memory and other and other[1] else None
        memories.append(Memory(_label(name, way), *(memory or (None, None)), share))
        if way == OURS:
            targets.append(Target(f"`{name}`: times faster", 3, row.faster.median))
            targets.append(Target(f"`{name}`: memory, share of the convolution's", 0.125, share, at_most=True))
    memories += [Memory(_label(n, CONVOLUTION), *(both or (None, None)), 1.0) for n, both in plain.items()]
    title = "1. One training step against the convolution"
    return Section(title, COMPARED, [list(times.values()), memories], BOUNDS, targets)


def _memory(name: str, way: str, problem: Problem) -> tuple[Bytes, Bytes] | None:
    options = {"name": name, "way": way}
    return extra_memory("steps", "step", [options | asdict(problem)], warm=options | TOY)[0]


def _label(name: str, way: str) -> str:
    return f"`{name}`" if way == OURS else f"`{name}`, {way}"


def _share_of_peak(problems: dict[str, Problem], times: dict[tuple[str, str], Faster], peak: Peak) -> Section:
    took = {key: row.ours for key, row in times.items()}
    took |= {(name, CONVOLUTION): times[name, OURS].theirs for name in problems}
    rows = [_reached(what, p.product, p.operands, seconds, peak) for what, p, seconds in _forwards(problems)]
    for (name, way), seconds in took.items():
        work, traffic = problems[name].of_step(name, way == CONVOLUTION)
        rows.append(_reached(f"step, {_label(name, way)}", work, traffic, seconds, peak))
    limits = Limits(peak.float32 / 1e9, peak.int8 / 1e9, peak.bandwidth / 1e9)
    return Section("2. Share of the machine's peak", PEAK_COMPARED, [[limits], rows], PEAK_BOUNDS)


def _forwards(problems: dict[str, Problem]) -> list[tuple[str, Problem, Seconds]]:
    """Measure the kernels alone, without a gradient."""
    rows = []
    for name, kernel in (("protobin", max_cosine), ("cgp", min_max_dot)):
        problem = replace(problems[name], layers=1)
        tokens, p = problem.batch()[0].flat[:, 0], problem.probe(name, OURS).prototypes.normalised().detach()
        for selection in ("exact", "int8"):
            what = f"forward, `{kernel.__name__}`, {selection}, K={problem.prototypes:,}"
            rows.append((what, problem, typical(lambda: kernel(tokens, p, selection=selection))))  # noqa: B023
    return rows


def _reached(what: str, work: int, traffic: int, took: Seconds, peak: Peak) -> Reached:
    return Reached(
        what,
        work / 1e9,
        Bytes(traffic),
        work / traffic,
        Seconds(max(work / peak.float32, traffic / peak.bandwidth)),
        took,
        Percent(work / took / peak.float32),
        Percent(work / took / peak.int8),
    )


if __name__ == "__main__":
    command(sections, __doc__, None)
