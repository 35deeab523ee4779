"""A training step of `protobin` and `cgp` against a 1 x 1 convolution: time, memory, share of the machine's peak.

python benchmarks/prototypes.py            # B = 16, N = 512, D = 768, K = 5,270 and 10,000, 527 classes
python benchmarks/prototypes.py --small    # a toy, to see that it runs
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
One step of AdamW (forward, loss, backward, update) by the probe as it ships, against the formulation in public
code: tokens normalised in every step, a 1 x 1 convolution that writes the similarity of every prototype with every
token, the maximum (for `cgp` minimum and maximum) over them, and autograd. Same weights, same batch, equal logits
(checked before timing). The library's step has the optimiser of its training loop, AdamW in one pass over the weights;
the convolution's has AdamW as torch makes it unasked, again as in public code. In the rows in int8
(`selection="int8"`) an integer product chooses the token and its value is computed in float.

Memory is the highest resident set during a step above that before it, in a fresh process for each row: in the
first step, which also makes gradients and moments of all parameters, as any way must; and in every later one,
which finds these made. The target is judged on the later."""
BOUNDS = """\
The convolution computes the dense product in float32, takes a second one of the same size for its gradient, though
every (clip, prototype) sends its gradient to one token only, and carries the table of similarities and its gradient
through memory, several times each. The library needs the first product alone, and where the processor has integer
units even that is an integer one, with a bound that leaves a few tokens of hundreds to multiply in float32: exact, and
below the time of any float32 product. Without such units the product in float32 is most of a step, and the ratio
cannot go further than a way whose other work is free. What bounds it now is the integer product, the search for the
tokens that are left, and, choosing for both ends and among float prototypes, more of these. In `cgp` both ways also
mix all layers of the batch behind the gate, forward and backward, and update many more weights: work that no kernel
saves and that pulls the ratio towards one."""
PEAK_COMPARED = """\
How near the step comes to the fastest matrix product that torch does on this machine, float32 and int8, both
measured here. The work of a row is its dense products; traffic counts every operand and every table once for
each time it must cross memory if nothing stays in cache. The roofline is the larger of work at the float32 peak
and traffic at the speed of a copy: no float32 form can be faster. A share of the int8 peak says what integer
units would leave to gain."""
PEAK_BOUNDS = """\
A row with much work for each byte is bound by arithmetic: the product of prototypes and tokens reuses each
operand hundreds of times. Where the share of the float32 peak exceeds one, the product ran on integer units: in the
exact rows to rule tokens out, in the others to choose. What separates these from the int8 peak is the pass over the
products, which touches each once more while it is in cache, and in the exact rows the second pass and the tokens that
must be multiplied in float32, each read for itself. Without integer units the exact rows cannot exceed one. The step
adds what is not a product at all: the gather of the backward pass, the update of every weight and its two moments
(bound by memory), and for `cgp` the mixture of layers."""


@dataclass(frozen=True)
class Memory:
    """Memory of one step beyond that before it."""

    what: Annotated[str, "what"]
    first: Annotated[Bytes | None, "first step"]
    later: Annotated[Bytes | None, "a later step"]
    share: Annotated[float | None, "later, share of the convolution's"]


@dataclass(frozen=True)
class Reached:
    """Work and traffic of one thing, and how near it came to the machine's best."""

    what: Annotated[str, "what"]
    work: Annotated[float, "Gflop in products"]
    traffic: Annotated[Bytes, "traffic"]
    intensity: Annotated[float, "flop a byte"]
    roofline: Annotated[Seconds, "roofline, float32"]
    took: Annotated[Seconds, "took"]
    float32: Annotated[Percent, "share of float32 peak"]
    int8: Annotated[Percent, "of int8 peak"]


@dataclass(frozen=True)
class Limits:
    """The machine's best."""

    float32: Annotated[float, "float32 product, Gflop/s"]
    int8: Annotated[float, "int8 product, Gop/s"]
    bandwidth: Annotated[float, "copy, GB/s"]


def sections(small: bool) -> list[Section]:
    """Both sections: against the convolution, and against the machine's peak."""
    problems = SMALL if small else FULL
    times = {(name, way): _time(name, way, problems[name]) for name, way in WAYS}
    against = _against_convolution(problems, times)
    peak = machine_peak((64,) if small else (1024, 3072), 1 << (20 if small else 29))
    return [against, _share_of_peak(problems, times, peak)]


def _time(name: str, way: str, problem: Problem) -> Faster:
    """A step in this way against the convolution's, after a look that their logits are equal."""
    tokens, _ = problem.batch()
    found, wanted = (_logits(name, w, problem, tokens) for w in (way, CONVOLUTION))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-2 if way == INT8 else 1e-4)
    del tokens
    options = asdict(problem)
    what = f"{_spoken(name, way)}: {problem.spoken()}"
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
        found, other = _memory(name, way, problems[name]), plain[name]
        share = found[1] / other[1] if found and other and other[1] else None
        memories.append(Memory(_spoken(name, way), *(found or (None, None)), share))
        if way == OURS:
            targets.append(Target(f"`{name}`: times faster", 3, row.faster.median))
            targets.append(Target(f"`{name}`: memory, share of the convolution's", 0.125, share, at_most=True))
    memories += [Memory(_spoken(n, CONVOLUTION), *(both or (None, None)), 1.0) for n, both in plain.items()]
    title = "1. One training step against the convolution"
    return Section(title, COMPARED, [list(times.values()), memories], BOUNDS, targets)


def _memory(name: str, way: str, problem: Problem) -> tuple[Bytes, Bytes] | None:
    options = {"name": name, "way": way}
    return extra_memory("steps", "step", [options | asdict(problem)], warm=options | TOY)[0]


def _spoken(name: str, way: str) -> str:
    return f"`{name}`" if way == OURS else f"`{name}`, {way}"


def _share_of_peak(problems: dict[str, Problem], times: dict[tuple[str, str], Faster], peak: Peak) -> Section:
    took = {key: row.ours for key, row in times.items()}
    took |= {(name, CONVOLUTION): times[name, OURS].theirs for name in problems}
    rows = [_reached(what, p.product, p.operands, seconds, peak) for what, p, seconds in _forwards(problems)]
    for (name, way), seconds in took.items():
        work, traffic = problems[name].of_step(name, way == CONVOLUTION)
        rows.append(_reached(f"step, {_spoken(name, way)}", work, traffic, seconds, peak))
    limits = Limits(peak.float32 / 1e9, peak.int8 / 1e9, peak.bandwidth / 1e9)
    return Section("2. Share of the machine's peak", PEAK_COMPARED, [[limits], rows], PEAK_BOUNDS)


def _forwards(problems: dict[str, Problem]) -> list[tuple[str, Problem, Seconds]]:
    """The kernels alone, without a gradient."""
    found = []
    for name, kernel in (("protobin", max_cosine), ("cgp", min_max_dot)):
        problem = replace(problems[name], layers=1)
        tokens, p = problem.batch()[0].flat[:, 0], problem.probe(name, OURS).prototypes.normalised().detach()
        for selection in ("exact", "int8"):
            what = f"forward, `{kernel.__name__}`, {selection}, K={problem.prototypes:,}"
            found.append((what, problem, typical(lambda: kernel(tokens, p, selection=selection))))  # noqa: B023
    return found


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
