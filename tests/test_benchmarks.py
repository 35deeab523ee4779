"""The benchmark programs run with tiny sizes, and their methods of measurement are correct."""

import importlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from otoscope.types import TokenShape

pytestmark = pytest.mark.filterwarnings("ignore:data set .scenes.. classes of split")  # so few clips lack classes

PROGRAMS = Path(__file__).parent.parent / "benchmarks"
MEBI = 2**20


@pytest.fixture(autouse=True)
def _programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PROGRAMS)


def in_pieces(mebibytes: int) -> Callable[[], object]:
    """Work that needs this much memory temporarily, in blocks of a size that malloc keeps after they are freed."""
    return lambda: sum(len(part) for part in [torch.ones(MEBI // 4) for _ in range(mebibytes)])


def test_page_contains_every_section_and_its_drawing(tmp_path: Path) -> None:
    importlib.import_module("run_all").main(["--small", "--out", str(tmp_path)])
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert [int(n) for n in re.findall(r"^## (\d+)\. ", page, re.MULTILINE)] == list(range(1, 15))
    assert page.count("**What limits it.**") == 14
    rows = "`protobin`: B=", "`cgp`: B=", "`mhca`: 2 trials", "`np.memmap`", "prototypes | 20 .. 80", "`finetune`"
    assert [row for row in rows if f"\n| {row}" not in page] == []
    assert torch.__version__ in page
    assert "](assets/growth.svg)" in page
    drawing = (tmp_path / "assets" / "growth.svg").read_text(encoding="utf-8")
    assert all(word in drawing for word in ("convolution", "tokens", "classes", "extra memory"))
    assert len(drawing) < 60_000


def test_page_of_the_card_contains_every_section(tmp_path: Path) -> None:
    importlib.import_module("card").main(["--small", "--out", str(tmp_path)])
    page = (tmp_path / "benchmarks-gpu.md").read_text(encoding="utf-8")
    assert [int(n) for n in re.findall(r"^## (\d+)\. ", page, re.MULTILINE)] == [1, 2, 3, 4, 5]
    rows = (
        "| float32, tf32: B=2",
        "| float32, selected in int8",
        "| `cgp`, this library",
        "| 60 clips",
        "| `tiny`, bfloat16 ",
        "| `tiny`, float32, last layer ",
    )
    assert [row for row in rows if row not in page] == []


def test_tiny_sizes_cannot_replace_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        importlib.import_module("run_all").main(["--small"])
    assert "--out" in capsys.readouterr().err


@pytest.mark.parametrize(
    "program", ["reading", "neighbours", "screened", "heads", "untrained", "front_ends", "decoding"]
)
def test_program_runs_alone(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(program)
    importlib.import_module("render").command(module.sections, module.__doc__, ["--small"])
    assert "times faster" in capsys.readouterr().out


@pytest.mark.slow
def test_workers_are_compared_with_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    importlib.import_module("workers").main(["--small"])
    printed = capsys.readouterr().out
    assert [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("| ")] == [
        "workers",
        "one process",
        "`--on local:2`",
    ]
    assert "4 units of 8 clips: " in printed


def test_listing_runs_alone(capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module("listing")
    importlib.import_module("render").command(module.sections, module.__doc__, ["--small"])
    page = capsys.readouterr().out
    assert "| table | 1,000 |" in page
    assert "| as2m | 1,000 |" in page


def test_extra_memory_counts_every_call_and_nothing_else() -> None:
    extra_memory = importlib.import_module("measure").extra_memory
    measured = extra_memory(__name__, "in_pieces", [{"mebibytes": 48}, {"mebibytes": 0}], warm={"mebibytes": 1})
    if measured[0] is None:
        pytest.skip("no /proc/self/clear_refs here")
    (first, again), nothing = measured
    assert 44 * MEBI < first < 56 * MEBI
    assert 44 * MEBI < again < 56 * MEBI  # memory that malloc kept would not show here
    assert max(nothing) < 4 * MEBI


@pytest.mark.parametrize(
    ("measured", "at_most", "reached"), [(3.1, False, True), (2.9, False, False), (2.9, True, True), (None, True, None)]
)
def test_target_is_reached_or_missed(measured: float | None, at_most: bool, reached: bool | None) -> None:
    rows, render = importlib.import_module("rows"), importlib.import_module("render")
    target = rows.Target("this", 3.0, measured, at_most)
    assert target.reached is reached
    assert {True: "reached", False: "**missed**", None: "not measured"}[reached] in render.targets([target])


def test_ratios_are_medians_over_rounds() -> None:
    row = importlib.import_module("measure").faster("this", [(1.0, 4.0), (1.0, 2.0), (2.0, 6.0)])
    assert (row.faster.median, row.faster.low, row.faster.high, row.rounds) == (3.0, 2.0, 4.0, 3)
    assert "| this | 3.00 (2.00 .. 4.00) | 1 s | 4 s | 3 |" in importlib.import_module("render").table([row])


def test_exponent_is_the_slope_of_the_larger_half() -> None:
    sizes = [1, 2, 4, 8, 16, 32]
    values = [9.0, 9.0, *(3.0 * n**2 for n in sizes[2:])]
    assert importlib.import_module("growth").slope(sizes, values) == pytest.approx(2)


@pytest.mark.parametrize("name", ["protobin", "cgp"])
def test_convolution_gives_the_probe_s_logits(name: str) -> None:
    steps = importlib.import_module("steps")
    problem = steps.Problem(**steps.TOY | {"layers": 2 if name == "cgp" else 1})
    (tokens, _), probe = problem.batch(), problem.probe(name, steps.OURS)
    assert probe.shape == TokenShape(problem.layers, problem.freq, problem.dim, True, 6.25)
    plain = steps.forward_of(name, steps.CONVOLUTION, probe)(tokens)
    torch.testing.assert_close(plain, probe(tokens), rtol=1e-4, atol=1e-5)
