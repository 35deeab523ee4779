"""Plans whose banks are replaced or deleted, whose workers are suspended, and workers that have to wait."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers_units import SHARD, plan_toy, serial_bank, visible_files, work
from otoscope import bank as banks
from otoscope.bank import _folder
from otoscope.bank.parts import BankParts
from otoscope.bench.units import PlanError, Status, Worker
from otoscope.bench.units import extraction as extracting
from otoscope.files import locked_folder
from toys import Ear, Tones

pytestmark = pytest.mark.usefixtures("toy_suites")


def before_unit(monkeypatch: pytest.MonkeyPatch, actions: dict[int, Any]) -> None:
    """Do something when a worker has claimed a unit, before it does the unit."""
    do = extracting.Extracting.do

    def with_action(self: Any, unit: Any, stop: Any) -> bool:
        actions.pop(unit.id, lambda: None)()
        return do(self, unit, stop)

    monkeypatch.setattr(extracting.Extracting, "do", with_action)


def test_a_plan_into_the_folder_of_another_bank_is_refused(tmp_path: Path) -> None:
    banks.extract(Ear(), Tones(), tmp_path / "bank", dtype="int8", shard_clips=SHARD, progress=False)
    with pytest.raises(banks.MismatchError, match="dtype: requested 'float16', stored 'int8'"):
        plan_toy(tmp_path / "plan", bank=tmp_path / "bank")
    with pytest.raises(banks.BankError, match="is not empty and has no manifest"):
        plan_toy(tmp_path / "plan", bank=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["bank"]


def test_a_file_is_no_folder_for_a_plan(tmp_path: Path) -> None:
    (tmp_path / "plan").touch()
    with pytest.raises(PlanError, match="plan is a file, and a plan is a folder"):
        plan_toy(tmp_path / "plan", bank=tmp_path / "bank")


@pytest.mark.parametrize("dtype", ["int8", "float16"])
def test_shards_of_another_bank_or_without_a_manifest_do_not_count(tmp_path: Path, dtype: str) -> None:
    plan = plan_toy(tmp_path)
    bank = banks.extract(Ear(), Tones(), plan.bank_path(0), dtype=dtype, shard_clips=SHARD, progress=False)
    if dtype == "float16":
        (bank.path / "manifest.json").unlink()
    assert Status.of(plan).done == set()
    summary = work(plan)
    assert (summary.done, summary.failed, summary.exit_status) == (0, (0,), 1)
    reason = "differs from the requested one" if dtype == "int8" else "has no manifest.json"
    assert reason in Status.of(plan).failed[0]


def test_a_bank_that_is_deleted_during_the_work_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_toy(tmp_path / "plan")
    before_unit(monkeypatch, {5: lambda: shutil.rmtree(plan.bank_path(0))})
    assert (work(plan).remaining, Status.of(plan).done) == (5, {5, 6})
    assert work(plan).done == 5
    assert visible_files(plan.bank_path(0)) == visible_files(serial_bank(tmp_path / "serial"))


def test_a_bank_that_is_replaced_during_the_work_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace_bank() -> None:
        shutil.rmtree(plan.bank_path(0))
        BankParts.of(Ear(), Tones(), plan.bank_path(0), dtype="int8", shard_clips=SHARD).begin()

    plan = plan_toy(tmp_path)
    before_unit(monkeypatch, {5: replace_bank})
    assert work(plan).failed == (5, 6)
    assert list(plan.bank_path(0).glob("*/shard-*")) == []
    assert "dtype: requested 'float16', stored 'int8'" in Status.of(plan).failed[5]


def test_a_unit_that_was_taken_over_from_a_suspended_worker_does_not_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_toy(tmp_path)
    taken = plan.claims / "unit-2.1"

    def suspended() -> None:
        taken.write_text("{}")  # another worker, which deletes what this one has written of a shard
        raise FileNotFoundError("shard-00004")

    before_unit(monkeypatch, {2: suspended, 6: taken.unlink})
    summary = work(plan)
    assert (summary.failed, summary.exit_status) == ((), 0)
    assert not plan.failure(2).exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no lock")
@pytest.mark.parametrize("begun", [False, True])
def test_sigterm_ends_the_wait_for_an_extraction_of_the_whole_bank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], begun: bool
) -> None:
    plan = plan_toy(tmp_path)
    worker = Worker(plan, loader_workers=0)
    assert worker.run([0]).done == 1 if begun else True
    monkeypatch.setattr(_folder.time, "sleep", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with locked_folder(plan.bank_path(0)):
        summary = worker.run()
    assert (summary.done, summary.exit_status) == (0, 75)
    assert capsys.readouterr().err.count("waiting for a process that extracts the whole bank") == 1
    monkeypatch.undo()
    assert work(plan).remaining == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no lock")
def test_shards_that_another_process_has_written_meanwhile_are_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_toy(tmp_path)
    worker = Worker(plan, loader_workers=0, progress=False)
    worker.run([0])
    lock = extracting.BankParts.write.__globals__["shared"]

    def late(path: Path, *arguments: Any) -> Any:
        banks.extract(Ear(), Tones(), path, shard_clips=SHARD, progress=False)
        times.extend(file.stat().st_mtime_ns for file in sorted(path.glob("*/shard-*")))
        return lock(path, *arguments)

    times: list[int] = []
    monkeypatch.setitem(extracting.BankParts.write.__globals__, "shared", late)
    worker.run([1])
    assert [file.stat().st_mtime_ns for file in sorted(plan.bank_path(0).glob("*/shard-*"))] == times
