"""Kernels, training steps, exact heads and extraction on a card with CUDA; writes docs/benchmarks-gpu.md.

python benchmarks/card.py                       # writes docs/benchmarks-gpu.md; takes two minutes
python benchmarks/card.py --small --out FOLDER  # tiny sizes on any machine, to check that it runs
"""

from __future__ import annotations

import argparse
import datetime
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import torch

import render
from heads import PENALTIES, problem
from measure import compare, machine, typical
from otoscope import datasets, encoders
from otoscope.bank import extract
from otoscope.datasets import Dataset
from otoscope.encoders import Encoder, Features
from otoscope.files import replacing
from otoscope.ops import _scan, _triton_max, max_cosine
from otoscope.ops.logistic import Design, solve
from otoscope.types import AudioBatch, Tokens
from rows import Bytes, Faster, Percent, Power, Seconds, Section
from steps import CONVOLUTION, INT8, OURS, TOY, Problem, step

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks-gpu.md"
STEPS = {
    "protobin": Problem(clips=64, steps=64, freq=8, dim=768, classes=527, prototypes=10_540, layers=1),
    "cgp": Problem(clips=64, steps=64, freq=8, dim=768, classes=527, prototypes=10_000, layers=12),
}
ENCODERS = ("tiny", "eat", "beats-iter3", "dasheng-base", "wavjepa", "eat-large", "dasheng-1.2b")
COMPILED = ("eat", "beats-iter3", "dasheng-base")
EXTRACTIONS = (
    ("eat", "bfloat16", "last"),
    ("eat", "bfloat16", "all"),
    ("beats-iter3", "bfloat16", "last"),
    ("dasheng-base", "bfloat16", "last"),
)
PARTS = ("audio", "front end", "encoder", "storing")
HEADS = ((18_600, 768, 527), (18_600, 10_000, 527))
OPENING = """\
`python benchmarks/card.py` writes this page on a machine with a card. Every ratio is measured within one run: both
implementations run once to warm up and then alternately. The tables give the median over the rounds and, in brackets,
the lowest and highest value. Times hold for this machine only."""


@dataclass(frozen=True)
class Kernel:
    """The forward pass of `max_cosine` in Triton and in torch."""

    what: Annotated[str, "tokens and prototypes"]
    faster: Annotated[float, "times faster than torch"]
    ours: Annotated[Seconds, "Triton"]
    theirs: Annotated[Seconds, "torch"]
    rate: Annotated[Power, "Triton, 10^12 operations per second"]
    difference: Annotated[str, "largest difference, relative"]


@dataclass(frozen=True)
class Memory:
    """The extra memory of a step."""

    what: Annotated[str, "what"]
    ours: Annotated[Bytes, "this library"]
    theirs: Annotated[Bytes, "convolution"]


@dataclass(frozen=True)
class Solved:
    """Exact heads on the card."""

    what: Annotated[str, "what"]
    seconds: Annotated[Seconds, "design and three penalties"]
    converged: Annotated[str, "within the bound of 1e-8"]
    memory: Annotated[Bytes, "memory on the card"]


@dataclass(frozen=True)
class Encoded:
    """Front end and body of an encoder."""

    what: Annotated[str, "what"]
    clips: Annotated[float, "clips of 10 s per second"]
    front_end: Annotated[Seconds, "front end, 64 clips"]
    body: Annotated[Seconds, "body, 64 clips"]
    difference: Annotated[str, "largest difference from float32 on the CPU, relative"]


@dataclass(frozen=True)
class Extracted:
    """An extraction from files on disk to tokens on disk."""

    what: Annotated[str, "what"]
    clips: Annotated[float, "clips of 10 s per second"]
    workers: Annotated[int, "loader workers"]
    audio: Annotated[Percent, "share of waiting for audio"]
    front_end: Annotated[Percent, "front end"]
    encoder: Annotated[Percent, "encoder"]
    storing: Annotated[Percent, "storing"]


def kernels(device: str, small: bool) -> Section:
    """Compare the Triton kernel with the product of torch in blocks, for each dtype and for int8."""
    shape = (2, 16, 8, 20) if small else (64, 512, 768, 10_540)
    rows = []
    for dtype, precision in (
        (torch.float32, "highest"),
        (torch.float32, "high"),
        (torch.bfloat16, "highest"),
        (torch.float16, "highest"),
    ):
        torch.set_float32_matmul_precision(precision)
        rows.append(_kernel(device, dtype, shape, "tf32" if precision == "high" else "", False))
    torch.set_float32_matmul_precision("highest")
    rows.append(_kernel(device, torch.float32, shape, "selected in int8", True))
    return Section(
        "1. The largest cosine of every prototype",
        "The forward pass of `max_cosine`: one fused kernel in Triton, compared with a product of torch in blocks of "
        "bounded size followed by a maximum. The difference is that of the values, relative to the largest one.",
        [rows],
        "Tensor cores; in the first row each product of float32 is three of TF32. torch also writes the table of "
        "products and reads it again, and has no tensor cores for float32 without TF32.",
    )


def _kernel(device: str, dtype: torch.dtype, shape: tuple[int, int, int, int], note: str, integer: bool) -> Kernel:
    B, N, D, K = shape
    random = torch.Generator().manual_seed(0)
    tokens = torch.randn(B, N, D, generator=random).to(device, dtype)
    signs = (torch.randn(K, D, generator=random).sign() / D**0.5).to(device, dtype)
    selection = "int8" if integer else "exact"
    ours = partial(max_cosine, tokens, signs, selection=selection)
    theirs = partial(_scan.scan, tokens, signs, None, True, False)
    name = f"{str(dtype).removeprefix('torch.')}{', ' + note if note else ''}"
    on_card = tokens.is_cuda and _triton_max.is_usable(tokens, signs, integer)
    what = f"{name}: B={B}, N={N}, D={D}, K={K:,}{'' if on_card else ' (Triton is not used)'}"
    measured = compare(what, ours, theirs)
    exact = _scan.scan(tokens.double(), signs.double(), None, True, False)[0]
    difference = float((ours()[0].double() - exact).abs().max() / exact.abs().max())
    operations = 2 * B * N * D * K / measured.ours / 1e12
    return Kernel(what, measured.faster.median, measured.ours, measured.theirs, Power(operations), f"{difference:.1e}")


def training_steps(device: str, small: bool) -> Section:
    """Compare a training step with the convolution: time and memory."""
    problems = {name: Problem(**TOY) for name in STEPS} if small else STEPS
    times: list[Faster] = []
    memory: list[Memory] = []
    for precision in ("float32", "TF32"):
        _set_precision(precision)
        for name, wanted in problems.items():
            theirs = step(name, CONVOLUTION, device, **asdict(wanted))
            for way in (OURS, INT8):
                ours = step(name, way, device, **asdict(wanted))
                what = f"`{name}`, {way}: {wanted.description()}"
                times.append(compare(f"{precision}: {what}", ours, theirs))
                if precision == "float32":
                    memory.append(Memory(what, _peak(ours), _peak(theirs)))
    _set_precision("float32")
    return Section(
        "2. One training step against the convolution",
        "One step of AdamW (forward, loss, backward, update), compared with a 1 x 1 convolution over the token map, "
        "the maximum over it, and autograd, as in public code; both with products of float32, and both with TF32. "
        "Memory is the peak on the card during a step minus the memory before it.",
        [times, memory],
        "The first product of prototypes and tokens. The convolution computes a second one for the gradient of the "
        "table of similarities, and keeps that table.",
    )


def _set_precision(name: str) -> None:
    torch.set_float32_matmul_precision("high" if name == "TF32" else "highest")
    torch.backends.cudnn.allow_tf32 = name == "TF32"


def _peak(work: Callable[[], object]) -> Bytes:
    if not torch.cuda.is_available():
        return Bytes(0)
    work()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return Bytes(torch.cuda.max_memory_allocated() - before)


def exact_heads(device: str, small: bool) -> Section:
    """Measure exact heads at the size of AudioSet-20k."""
    rows = []
    for clips, width, classes in ((60, 8, 3),) if small else HEADS:
        x, y = problem(clips, min(width, 2000), classes, "multi-label")
        if width > x.shape[1]:  # more features of the same kind; the rotation of `problem` is cubic in the width
            x = torch.cat([x, torch.tanh(x @ torch.randn(x.shape[1], width - x.shape[1], dtype=x.dtype))], 1)
        x, y = x.float().to(device), y.to(device)
        converged = []

        def path(x: torch.Tensor = x, y: torch.Tensor = y, converged: list[bool] = converged) -> None:
            design, solution = Design(x), None
            for penalty in PENALTIES:
                solution = solve(design, y, penalty, kind="multi-label", start=solution)
            converged.append(bool(solution is not None and solution.converged.all()))

        memory = _peak(path)
        what = f"{clips:,} clips, D={width:,}, C={classes}, several labels"
        rows.append(Solved(what, typical(path), "yes" if all(converged) else "no", memory))
    return Section(
        "3. Exact heads at the size of AudioSet-20k",
        "L2-regularised logistic regressions for standardised features in float64, one for each class: the design "
        "(statistics and principal axes) and three penalties, each from the solution before it.",
        [rows],
        "Products of float64 of the features with a matrix of one column for each class, some twenty for each Newton "
        "step, and the eigenvalues of a matrix of the size of the features.",
    )


def encoding(device: str, small: bool) -> Section:
    """Measure front end and body of encoders for clips of 10 s, in float32, with bfloat16 autocast, and compiled."""
    seconds, count = (1, 2) if small else (10, 64)
    rows = []
    for name in ("tiny",) if small else ENCODERS:
        encoder = encoders.create(name, weights="random").eval()
        random = torch.Generator().manual_seed(0)
        waves = torch.randn(count, encoder.sample_rate * seconds, generator=random) * 0.1
        lengths = torch.full((count,), waves.shape[1])
        expected = _valid(encoder.encode(AudioBatch(waves[:2], lengths[:2], encoder.sample_rate)))
        encoder.to(device)
        batch = AudioBatch(waves.to(device), lengths.to(device), encoder.sample_rate)
        with torch.no_grad():
            features = encoder.front_end(batch)
            front_end = typical(partial(encoder.front_end, batch))
        kinds = [("float32", encoder.embed, None), ("bfloat16", encoder.embed, "bfloat16")]
        if name in COMPILED:
            kinds.append(("bfloat16, compiled", torch.compile(encoder.embed), "bfloat16"))
        for note, embed, precision in kinds:
            encoder.autocast = precision
            work = partial(_tokens, encoder, features, embed)
            body = typical(work)
            difference = float((_valid(work())[:2].cpu() - expected).abs().max() / expected.abs().max())
            what = f"`{name}`, {note}"
            rows.append(Encoded(what, count / (front_end + body), front_end, body, f"{difference:.1e}"))
    return Section(
        "4. Encoding",
        "Front end and body of encoders with random weights for 64 clips of 10 s that are on the card already, with "
        "all layers. Decoding is not included.",
        [rows],
        "The front end moves frames through memory; the body of `tiny` is small for a card. In float32 without TF32 "
        "the products of the larger bodies do not use tensor cores.",
    )


def _tokens(encoder: Encoder, features: Features, embed: Callable[[Features], Tokens]) -> Tokens:
    with encoder.inference():
        return encoder.embed_as(features, embed)


def _valid(tokens: Tokens) -> torch.Tensor:
    """The token maps of clips of one length, without steps of padding."""
    return tokens.x[:, :, tokens.mask[0]]


def extraction(device: str, small: bool) -> Section:
    """Measure whole extractions of FLAC files of 10 s at 32 kHz."""
    seconds, count = (1, 8) if small else (10, 2048)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        dataset = _files(Path(folder) / "audio", count, 32_000 * seconds)
        for name, precision, layers in (("tiny", None, "last"), *(() if small else EXTRACTIONS)):
            encoder = encoders.create(name, weights="random", autocast=precision).to(device)
            note = f"{precision or 'float32'}, {'all layers' if layers == 'all' else 'last layer'}"
            path = Path(folder) / f"{name} {note}"
            bank = extract(encoder, dataset, path, layers=layers, batch_size=64, batch_seconds=640.0, progress=False)
            measured = bank.extractions[0]
            shares = [Percent(measured.seconds[part] / measured.seconds["total"]) for part in PARTS]
            clips = measured.clips / measured.seconds["total"]
            rows.append(Extracted(f"`{name}`, {note}", clips, measured.loader_workers, *shares))
    return Section(
        "5. From files to a bank",
        f"`extract` for {count:,} FLAC files of 10 s at 32 kHz, which loader workers decode and resample, in batches "
        "of 64, to tokens in float16 on disk.",
        [rows],
        "The part with the largest share: loader workers that decode and resample, the card, or the threads that cast, "
        "hash and write tokens.",
    )


def _files(folder: Path, count: int, samples: int) -> Dataset:
    """A data set of files of noise with two classes."""
    random = np.random.default_rng(0)
    for number in range(count):
        split = ("train", "validation", "test")[max(0, number - count + 3)]
        path = folder / split / "ab"[number % 2] / f"{number}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * random.standard_normal(samples).astype(np.float32), 32_000)
    return datasets.create(str(folder))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="tiny sizes, to check that it runs; requires --out")
    parser.add_argument("--out", type=Path, help="folder of the page (default: docs/)")
    options = parser.parse_args(arguments)
    if options.small and options.out is None:
        parser.error("--small measures tiny sizes, not for docs/benchmarks-gpu.md; give another folder with --out")
    if not options.small and not torch.cuda.is_available():
        parser.error("this machine has no card with CUDA; --small --out FOLDER checks that the program runs")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    card = f"**{torch.cuda.get_device_name()}**, " if device == "cuda" else ""
    parts = [kernels, training_steps, exact_heads, encoding, extraction]
    sections = [render.section(part(device, options.small)) for part in parts]
    where = f"{card}{machine()}, {datetime.date.today().isoformat()}."
    text = "\n\n".join(["# Benchmarks on a card", render.paragraphs(OPENING), where, *sections])
    with replacing((options.out / PAGE.name) if options.out else PAGE) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
