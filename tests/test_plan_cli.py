"""`otoscope plan`, `work`, `status`, `launch` and the option `--on`."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers_sources import write_audio
from helpers_suites import reproducible
from helpers_units import visible_files
from otoscope.bench.units import PlanFolder
from otoscope.cli import main
from otoscope.results import Store
from toys import run_toy

pytestmark = pytest.mark.usefixtures("plugin_folder")
TOY = ("--plugin", "toy.py", "--quiet")
SUITE = ("--encoders", "ear", "--datasets", "tones", "--probes", "linear,protobin", "--epochs", "1", "--no-control")


def test_a_plan_of_an_extraction_is_done_unit_by_unit(capsys: pytest.CaptureFixture[str]) -> None:
    pair = ("--encoder", "ear", "--dataset", "tones")
    assert main(["plan", "extract", *TOY, *pair, "--unit-clips", "64", "--out", "plan", "--dtype", "int8"]) == 0
    assert "plan: 3 units, estimated 4 s of two cores" in capsys.readouterr().out
    assert main(["work", "plan", *TOY, "--unit", "1"]) == 0
    assert capsys.readouterr().out == "1 units done by this worker, 0 left\n"
    assert main(["status", "plan", "--missing"]) == 0
    assert capsys.readouterr().out == "0,2\n"
    assert main(["status", "plan"]) == 0
    assert "1 of 3 units done" in capsys.readouterr().out
    assert main(["work", "plan", *TOY, "--deadline", "0.0001"]) == 75
    assert main(["work", "plan", *TOY]) == 0
    assert run_toy("extract", "--dtype", "int8", "--bank", "serial") == 0
    assert visible_files(Path("plan/bank")) == visible_files(Path("serial"))


def test_the_commands_that_a_plan_prints_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "extract", *TOY, "--encoder", "ear", "--dataset", "tones", "--out", "my plan"]) == 0
    assert "`otoscope launch 'my plan' --on local:N`, or `otoscope work 'my plan'` anywhere" in capsys.readouterr().out


def test_a_unit_is_named_by_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["plan", "extract", *TOY, "--encoder", "ear", "--dataset", "tones", "--out", "plan"]) == 0
    assert main(["work", "plan", *TOY, "--index-env"]) == 2
    assert "--index-env needs SLURM_ARRAY_TASK_ID" in capsys.readouterr().err
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "2")
    assert main(["work", "plan", *TOY, "--index-env"]) == 0
    main(["status", "plan", "--missing"])
    assert capsys.readouterr().out.endswith("0-1\n")


def test_a_data_set_in_files_is_planned_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = ("--plugin", str(tmp_path / "toy.py"), "--quiet")
    for number in range(8):
        write_audio(tmp_path / "sounds" / "ab"[number % 2] / f"{number}.wav", seed=number, seconds=0.5)
    files = ("--encoder", "ear", "--dataset", "sounds")
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "extract", *toy, *files, "--out", "plan"]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["work", "../plan", *toy]) == 0
    monkeypatch.chdir(tmp_path)
    assert main(["extract", *toy, *files, "--bank", "serial"]) == 0
    assert visible_files(Path("plan/bank")) == visible_files(Path("serial"))
    capsys.readouterr()
    assert main(["extract", *toy, *files, "--bank", "memory://bank", "--on", "local:2"]) == 2
    assert "is in the memory of one process" in capsys.readouterr().err


def test_a_launch_whose_workers_cannot_use_the_plan_ends_with_their_status() -> None:
    for number in range(8):
        write_audio(Path("sounds") / "ab"[number % 2] / f"{number}.wav", seed=number, seconds=0.5)
    assert main(["plan", "extract", *TOY, "--encoder", "ear", "--dataset", "sounds", "--out", "plan"]) == 0
    write_audio(Path("sounds/a/0.wav"), seed=9, seconds=0.5)
    assert main(["work", "plan", *TOY]) == 2
    assert main(["launch", "plan", *TOY, "--on", "local:2", "--threads", "1"]) == 2
    assert not list(Path("plan/bank").glob("*/shard-*"))


def test_extract_on_local_workers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_toy("extract", "--bank", "parts", "--on", "local:2", "--threads", "1") == 0
    assert run_toy("extract", "--bank", "serial") == 0
    assert visible_files(Path("parts")) == visible_files(Path("serial"))
    assert PlanFolder.read("parts-plan").bank_path(0) == Path("parts")
    assert main(["launch", "parts-plan", "--on", "slurm:array=2", "--dry-run", *TOY]) == 0
    assert "sbatch --parsable --array=0-1" in capsys.readouterr().out
    assert main(["launch", "parts-plan", "--on", "local:2", "--dry-run", *TOY]) == 2
    assert "--dry-run writes the script of slurm, and --on is local:2" in capsys.readouterr().err


def test_bench_on_local_workers_ends_in_the_records_of_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *TOY, *SUITE, "--out", "serial"]) == 0
    table = capsys.readouterr().out
    assert main(["bench", *TOY, *SUITE, "--out", "parallel", "--on", "local:2", "--threads", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == table.splitlines()[:2]
    assert reproducible(Store("parallel/results")) == reproducible(Store("serial/results"))
    assert main(["bench", *TOY, *SUITE, "--out", "parallel", "--on", "local:2"]) == 0
    assert "nothing to do: all 2 runs are finished" in capsys.readouterr().out


def test_a_plan_of_a_suite_is_done_by_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "bench", *TOY, *SUITE, "--out", "plan", "--results", "runs"]) == 0
    assert main(["work", "plan", *TOY]) == 0
    assert "5 units done by this worker, 0 left" in capsys.readouterr().out
    assert [record.probe for record in Store("runs/results")] == ["linear", "protobin"]
    assert main(["status", "plan", "--watch"]) == 0  # ends, because all is done
    assert "study: 2 of 2 done" in capsys.readouterr().out


def test_finetune_on_local_workers() -> None:
    arguments = ("--epochs", "1", "--seeds", "2", "--threads", "1")
    assert run_toy("finetune", *arguments, "--out", "parallel", "--on", "local:2") == 0
    assert run_toy("finetune", *arguments, "--out", "serial") == 0
    assert reproducible(Store("parallel/results")) == reproducible(Store("serial/results"))


def test_a_suite_that_cannot_be_used_is_not_planned(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "bench", "--suite", "unmute", "--out", "plan", "--no-control"]) == 2
    assert "missing dataset 'fsd50k'" in capsys.readouterr().err
