"""The benchmark programs run, on toys; what they measure there means nothing."""

import importlib
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("program", "extra", "rows"),
    [
        ("prototypes", [], ["protobin", "cgp"]),
        ("trials", ["--trials", "2"], ["mean", "mhca", "protobin"]),
        ("reading", [], ["np.memmap", "encoding again"]),
    ],
)
def test_benchmark_prints_its_table(
    program: str,
    extra: list[str],
    rows: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    importlib.import_module(program).main(["--small", "--rounds", "1", *extra])
    table = capsys.readouterr().out
    for row in rows:
        assert f"\n| {row}" in table
