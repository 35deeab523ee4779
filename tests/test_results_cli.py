"""`otoscope results` and `otoscope compare`: views, filters, formats and files."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from helpers_records import add_scenes, scene_record
from otoscope.cli import arguments, main
from otoscope.report.text.export import FORMATS
from otoscope.report.text.flat import Format
from otoscope.results import Protocol, Store

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "otoscope-runs" / "results")
    add_scenes(store, "linear", 0.6)
    add_scenes(store, "protobin", 1.9)
    store.add(
        replace(scene_record("linear", 0, 0.1, "audiomae"), dataset="as20k", metrics={"mAP": 0.1, "auroc": math.nan})
    )
    return store


def test_formats_offered_are_those_rendered() -> None:
    assert set(arguments.FORMATS) == set(get_args(Format)) == {f for f in FORMATS.values() if f != "parquet"}


def test_compare_prints_the_verdict_and_filters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "protobin", "linear", "--resamples", "200"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("tiny on scenes: protobin beats linear by ")
    assert out[1:] == ["omitted: audiomae on as20k has no protobin"]
    assert main(["compare", "protobin", "linear", "--dataset", "scenes", "--encoder", "tiny"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert main(["compare", "protbin", "linear"]) == 2
    assert "did you mean 'protobin'" in capsys.readouterr().err


def test_published_compares_results_with_published_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "--published"]) == 0
    out = capsys.readouterr().out
    assert "nothing is published for data set scenes" in out
    line = next(line for line in out.splitlines() if line.startswith("audiomae"))
    assert line.split() == ["audiomae", "linear", "10.0", "–", "8.4", "+1.6", "unmute"]
    assert main(["results", "--published", "--format", "csv", "--encoder", "A-MAE"]) == 0
    (only,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (only["encoder"], only["published_encoder"], float(only["published"])) == ("audiomae", "A-MAE", 0.0836)


def test_filters_apply_to_every_view(capsys: pytest.CaptureFixture[str]) -> None:
    for view in ([], ["--summary"], ["--published"]):
        assert main(["results", *view, "--probe", "protobin", "--dataset", "scenes", "--format", "json"]) == 0
        assert {row["probe"] for row in json.loads(capsys.readouterr().out)} == {"protobin"}
        assert main(["results", *view, "--encoder", "tinny"]) == 2
        error = capsys.readouterr().err
        assert "there are encoders audiomae, tiny; data sets as20k, scenes; probes linear, protobin" in error


@pytest.mark.parametrize("view", [[], ["--summary"], ["--published"]])
def test_latex_is_balanced_booktabs_in_ascii(view: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", *view, "--format", "latex"]) == 0
    out = capsys.readouterr().out
    assert out.count(r"\begin{tabular}") == out.count(r"\end{tabular}") == out.count(r"\toprule") >= 1
    rows = [line for line in out.splitlines() if line and not line.startswith("%")]
    columns: int | None = None
    for line in rows:
        if line.startswith(r"\begin"):
            columns = len(line.removeprefix(r"\begin{tabular}{").removesuffix("}"))
        elif line.endswith(r"\\"):
            assert line.replace(r"\&", "").count("&") + 1 == columns
        assert "_" not in line.replace(r"\_", "")
        assert "%" not in line.replace(r"\%", "")
    assert "".join(rows).isascii()


@pytest.mark.parametrize("ending", ["csv", "json", "md", "tex", "txt"])
def test_a_file_contains_what_the_terminal_shows(ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "--summary", "--export", f"out.{ending}"]) == 0
    assert capsys.readouterr().out == f"out.{ending}: 3 rows\n"
    assert main(["results", "--summary", "--format", FORMATS[f".{ending}"]]) == 0
    assert Path(f"out.{ending}").read_text(encoding="utf-8") == capsys.readouterr().out


def test_an_unknown_ending_is_refused_before_anything_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "--export", "out.xlsx"]) == 2
    assert "allowed: .parquet, .csv" in capsys.readouterr().err
    assert not Path("out.xlsx").exists()


def test_parquet_contains_every_seed_with_types(store: Store) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (the extra `parquet`)")
    assert main(["results", "--export", "out.parquet"]) == 0
    table = parquet.read_table("out.parquet")
    rows = table.to_pylist()
    assert [row["value"] for row in rows] == [r.value for r in store]
    assert [row["key"] for row in rows] == [r.key for r in store]
    types = {field.name: str(field.type) for field in table.schema}
    column_types = [types[name] for name in ("encoder", "seed", "value", "parameters", "protocol", "auroc")]
    assert column_types == ["string", "int64", "double", "int64", "string", "double"]
    assert {row["auroc"] for row in rows} == {None}
    assert Protocol.from_json(json.loads(rows[0]["protocol"])) == next(iter(store)).protocol


def test_parquet_of_the_other_views_has_typed_empty_columns() -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (the extra `parquet`)")
    for view, absent in (("--summary", "gap_closed"), ("--published", "difference")):
        assert main(["results", view, "--export", "out.parquet", "--dataset", "scenes"]) == 0
        table = parquet.read_table("out.parquet")
        assert str(table.schema.field(absent).type) == "double"
        assert table.column(absent).null_count == table.num_rows == 2


def test_without_pyarrow_parquet_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["results", "--export", "out.parquet"]) == 2
    assert "pip install 'otoscope[parquet]'" in capsys.readouterr().err
    assert not Path("out.parquet").exists()


def test_views_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["results", "--summary", "--published"])
    assert "not allowed with" in capsys.readouterr().err


def test_help_of_compare_imports_nothing_heavy() -> None:
    import subprocess

    code = (
        "import sys\nfrom otoscope.cli import main\n"
        "for words in (['compare', '--help'], ['results', '--help']):\n"
        "    try: main(words)\n    except SystemExit as end: assert end.code == 0\n"
        "print([m for m in ('torch', 'numpy', 'scipy', 'csv', 'pyarrow') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
    assert "usage: otoscope compare" in result.stdout
