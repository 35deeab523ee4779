"""Plans of units, and the workers that do them."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers_suites import FINETUNED, PLAIN, SOBOL, reproducible, run_quietly
from helpers_units import EAR, SHARD, plan_toy, serial_bank, visible_files, work
from otoscope import bank as banks
from otoscope.bank import _loader, _pipeline
from otoscope.bank.parts import BankParts
from otoscope.bench import claims, suites
from otoscope.bench.specs import DatasetSpec, EncoderSpec
from otoscope.bench.units import (
    ExtractUnit,
    Layout,
    PlanError,
    PlanFolder,
    Status,
    StudyUnit,
    Worker,
    plan_extraction,
    plan_suite,
)
from otoscope.bench.units import extraction as extracting
from otoscope.bench.units import worker as workers
from otoscope.bench.units.canary import TOLERANCE
from otoscope.bench.units.status import array_specification
from otoscope.bench.units.suite_json import suite_from_json, suite_to_json
from otoscope.bench.units.task import unit_of_environment
from otoscope.results import Store
from toys import Ear, Tones

pytestmark = pytest.mark.usefixtures("toy_suites")


# The plan on disk


def test_units_cover_every_shard_once(tmp_path: Path) -> None:
    plan = plan_toy(tmp_path)
    units = [unit for unit in plan.units if isinstance(unit, ExtractUnit)]
    shards = [(unit.split, number) for unit in units for number in range(unit.first, unit.end)]
    expected = {"train": 6, "validation": 3, "test": 3}
    assert shards == [(split, number) for split, count in expected.items() for number in range(count)]
    assert [unit.clips for unit in units] == [16, 16, 16, 16, 8, 16, 8]
    assert [unit.id for unit in units] == list(range(7))
    assert all(unit.minutes > 0 and unit.memory > 500 for unit in units)


@pytest.mark.parametrize(("clips", "sizes"), [(48, 6 * [8]), (400, 25 * [16])])
def test_units_of_a_small_bank_are_small_unless_a_size_is_given(tmp_path: Path, clips: int, sizes: list[int]) -> None:
    tones = {"splits": ("train",), "dataset_options": {"sizes": {"train": clips, "validation": 8, "test": 8}}}
    plan = plan_toy(tmp_path / "plan", unit_clips=None, **tones)
    assert [unit.clips for unit in plan.units if isinstance(unit, ExtractUnit)] == sizes
    assert len(plan_toy(tmp_path / "other", unit_clips=4096, **tones).units) == 1


def test_a_plan_that_is_read_is_the_one_that_was_written(tmp_path: Path) -> None:
    plan = plan_toy(tmp_path)
    assert PlanFolder.read(tmp_path) == plan
    assert PlanFolder.read(tmp_path).units == plan.units
    assert plan_toy(tmp_path) == plan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "int8"}, r"banks\[0\].identity.dtype is 'float16', requested 'int8'"),
        ({"encoder_options": {"seed": 1}}, r"banks\[0\].encoder_options.seed is None, requested 1"),
        ({"unit_clips": 8}, r"banks\[0\].unit_clips is 16, requested 8"),
        ({"batch_size": 3}, r"batch_size is 16, requested 3"),
        ({"bank": "elsewhere"}, r"banks\[0\].path"),
    ],
)
def test_an_existing_plan_with_another_layout_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    before = {file.name: file.read_bytes() for file in plan_toy(tmp_path).path.iterdir()}
    with pytest.raises(PlanError, match=message):
        plan_toy(tmp_path, **change)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_plan_of_another_kind_in_the_folder_is_refused(tmp_path: Path) -> None:
    plan_toy(tmp_path / "plan")
    with pytest.raises(PlanError, match="is one of an extraction, requested is one of a suite; give another folder"):
        PlanFolder.create(
            tmp_path / "plan", replace(PlanFolder.read(tmp_path / "plan").layout, suite={"name": "x"}), []
        )


def test_a_folder_with_other_files_is_no_place_for_a_plan(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(PlanError, match=r"is not empty and has no plan\.json"):
        plan_toy(tmp_path)
    with pytest.raises(PlanError, match=r"there is no plan.json; write one with `otoscope plan`"):
        PlanFolder.read(tmp_path)


def test_damaged_and_changed_files_of_a_plan_are_refused(tmp_path: Path) -> None:
    plan_toy(tmp_path)
    file, text = tmp_path / "plan.json", (tmp_path / "plan.json").read_text()
    for damaged in (text[:-9], "[]", text.replace('"path"', '"paht"'), "{}"):
        file.write_text(damaged)
        with pytest.raises(PlanError, match=r"plan.json is damaged .*plan again"):
            PlanFolder.read(tmp_path)
    file.write_text(text.replace('"version": 2', '"version": 1'))
    with pytest.raises(PlanError, match="has version 1, this otoscope reads version 2"):
        PlanFolder.read(tmp_path)
    file.write_text(text)
    units = tmp_path / "units.jsonl"
    units.write_text(units.read_text().replace("tones", "scenes"))
    with pytest.raises(PlanError, match=r"units.jsonl differs from what was written"):
        _ = PlanFolder.read(tmp_path).units


def test_a_plan_does_not_allow_the_code_of_a_repository(tmp_path: Path) -> None:
    options = {"path": "someone/model", "revision": "0" * 40, "trust_remote_code": True}
    with pytest.raises(PlanError, match="a plan cannot allow the code of a repository"):
        plan_extraction(tmp_path, **(EAR | {"encoder": "hf", "encoder_options": options}))


@pytest.mark.parametrize("name", suites.names())
def test_suites_survive_being_written_into_a_plan(name: str) -> None:
    suite = suites.load(name)
    assert suite_from_json(json.loads(json.dumps(suite_to_json(suite)))) == suite


def test_options_of_every_part_of_a_suite_survive() -> None:
    encoder, data = EncoderSpec("ear", "other", {"seed": 3}), DatasetSpec("crossed", {"clips": 30}, folds=(1, 3))
    suite = replace(SOBOL, encoders=(encoder,), datasets=(data,), probes=(*SOBOL.probes, FINETUNED), standardise=False)
    read = suite_from_json(json.loads(json.dumps(suite_to_json(suite))))
    assert (read, read.encoders, read.datasets, read.probes) == (suite, suite.encoders, suite.datasets, suite.probes)
    assert [spec.options for spec in (*read.encoders, *read.datasets, *read.probes)] == [
        spec.options for spec in (*suite.encoders, *suite.datasets, *suite.probes)
    ]


# Extraction


def test_the_bank_of_a_plan_has_the_bytes_of_a_serial_extraction(tmp_path: Path) -> None:
    plan = plan_toy(tmp_path / "plan")
    assert work(plan, 5, 0).done == 2
    assert (work(plan).done, work(plan).done) == (5, 0)
    assert visible_files(plan.bank_path(0)) == visible_files(serial_bank(tmp_path / "serial"))
    assert banks.open(plan.bank_path(0)).splits == ("train", "validation", "test")


def test_two_workers_share_the_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, do = plan_toy(tmp_path), extracting.Extracting.do
    done: list[int] = []

    def slowly(self: Any, unit: Any, stop: Any) -> bool:
        done.append(unit.id)
        time.sleep(0.05)
        return do(self, unit, stop)

    monkeypatch.setattr(extracting.Extracting, "do", slowly)
    monkeypatch.setattr(workers, "POLL_SECONDS", 0.02)
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(work(plan).done)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(7))
    assert sum(counts) == 7
    assert min(counts) > 0


def test_a_unit_that_another_worker_has_just_done_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, claim = plan_toy(tmp_path), claims.claim

    @contextmanager
    def late(folder: Path, name: str) -> Iterator[bool]:
        with monkeypatch.context() as patched:
            patched.setattr(claims, "claim", claim)
            work(plan, int(name.removeprefix("unit-")))
        with claim(folder, name) as claimed:
            yield claimed

    monkeypatch.setattr(claims, "claim", late)
    assert work(plan).done == 0
    assert Status.of(plan).complete


def test_a_unit_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"has 7 units \(0..6\), not 7"):
        work(plan_toy(tmp_path), 7)


def test_damaged_and_deleted_shards_are_done_again(tmp_path: Path) -> None:
    plan = plan_toy(tmp_path / "plan")
    work(plan)
    expected = visible_files(plan.bank_path(0))
    (plan.bank_path(0) / "validation/shard-00001.safetensors").unlink()
    assert Status.of(plan).missing == [3]
    assert work(plan).done == 1
    assert visible_files(plan.bank_path(0)) == expected


@pytest.mark.parametrize(
    ("cls", "attribute", "message"),
    [
        (Ear, "front_end_id", "differs from the plan in front_end: the plan has 'rfft-50ms-log', this machine 'other'"),
        (Tones, "digest", "tones by ear differs from the plan in dataset_digest"),
    ],
)
def test_another_encoder_or_data_set_than_that_of_the_plan_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cls: Any, attribute: str, message: str
) -> None:
    plan = plan_toy(tmp_path)
    monkeypatch.setattr(cls, attribute, "other")
    with pytest.raises(PlanError, match=message):
        work(plan)
    assert not (plan.bank_path(0) / "manifest.json").exists()


@pytest.mark.parametrize(("share", "refused"), [(0.5, False), (2.0, True)])
def test_a_worker_whose_canaries_differ_by_more_than_the_tolerance_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, refused: bool
) -> None:
    plan, embed = plan_toy(tmp_path), Ear.embed
    work(plan, 0)

    def drifting(self: Ear, features: Any) -> Any:
        tokens = embed(self, features)
        return type(tokens)(tokens.x * (1 + share * TOLERANCE["float16"]), tokens.mask, tokens.cls)

    monkeypatch.setattr(Ear, "embed", drifting)
    if refused:
        with pytest.raises(PlanError, match=r"encoder 'ear' gives other tokens on \S+ than on \S+: a value of clip"):
            work(plan)
        assert Status.of(plan).done == {0}
    else:
        assert work(plan).remaining == 0


def test_canaries_with_tokens_that_are_not_finite_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, embed = plan_toy(tmp_path), Ear.embed
    work(plan, 0)
    monkeypatch.setattr(Ear, "embed", lambda self, f: (t := embed(self, f)) and type(t)(t.x * torch.nan, t.mask, t.cls))
    with pytest.raises(PlanError, match="differs by inf of the largest value"):
        work(plan)


# How workers end


def test_a_worker_stops_before_a_unit_that_cannot_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, do = plan_toy(tmp_path), extracting.Extracting.do

    def slowly(self: Any, unit: Any, stop: Any) -> bool:
        time.sleep(0.4)
        return do(self, unit, stop)

    monkeypatch.setattr(extracting.Extracting, "do", slowly)
    start = time.monotonic()
    summary = work(plan, deadline=1.0)
    assert time.monotonic() - start < 1.3
    assert 1 <= summary.done <= 2
    assert (summary.remaining, summary.exit_status) == (7 - summary.done, 75)


def test_without_a_deadline_the_end_of_the_slurm_job_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 60))
    assert work(plan_toy(tmp_path)).done == 0


def test_sigterm_ends_an_extraction_after_the_shard_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, do = plan_toy(tmp_path / "plan", unit_clips=48), extracting.Extracting.do
    work(plan, 1)  # validation, so that the bank is begun
    questions = itertools.count()

    def with_signal(self: Any, unit: Any, stop: Callable[[], bool]) -> bool:
        def asked() -> bool:
            if next(questions) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return stop()

        return do(self, unit, asked)

    monkeypatch.setattr(extracting.Extracting, "do", with_signal)
    summary = work(plan)
    assert (summary.done, summary.remaining) == (0, 2)
    assert len(list((plan.bank_path(0) / "train").glob("shard-*"))) == 2
    assert list(plan.claims.iterdir()) == []
    monkeypatch.setattr(extracting.Extracting, "do", do)
    assert work(plan).remaining == 0
    assert visible_files(plan.bank_path(0)) == visible_files(serial_bank(tmp_path / "serial"))


def test_a_unit_that_fails_is_recorded_and_done_again_when_it_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, do = plan_toy(tmp_path), extracting.Extracting.do

    def failing(self: Any, unit: Any, stop: Any) -> bool:
        if unit.id in (2, 4):
            raise OSError("no space left")
        return do(self, unit, stop)

    monkeypatch.setattr(extracting.Extracting, "do", failing)
    summary = work(plan)
    assert (summary.done, summary.failed, summary.remaining, summary.exit_status) == (5, (2, 4), 0, 1)
    status = Status.of(plan)
    assert status.failed.keys() == {2, 4}
    assert "failed 2: train 32-47 of tones by ear: OSError: no space left (on " in str(status)
    assert "no space left" in json.loads(plan.failure(2).read_text())["traceback"]
    monkeypatch.setattr(extracting.Extracting, "do", do)
    assert work(plan).done == 0  # what failed is left alone
    assert work(plan, 2).done == 1
    plan.forget_failures()
    assert (work(plan).done, Status.of(plan).complete) == (1, True)


def test_a_worker_ends_after_three_failures_in_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> bool:
        raise RuntimeError("this card is broken")

    plan = plan_toy(tmp_path)
    monkeypatch.setattr(extracting.Extracting, "do", failing)
    monkeypatch.setattr(extracting.Extracting, "is_prepared", lambda *_: True)
    assert (work(plan).failed, len(Status.of(plan).missing)) == ((0, 1, 2), 7)


def test_the_unit_of_a_killed_worker_is_done_by_another(tmp_path: Path) -> None:
    plan = plan_toy(tmp_path)
    plan.claims.mkdir()
    ended = os.fork()
    if ended == 0:
        os._exit(0)
    os.waitpid(ended, 0)
    owner = {"machine": claims._machine(), "pid": ended, "since": "2026-11-26T10:00:00+00:00"}
    (plan.claims / "unit-3.0").write_text(json.dumps(owner))
    assert Status.of(plan).running == {}
    assert work(plan).remaining == 0


def test_two_workers_may_begin_a_bank_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, iterdir = plan_toy(tmp_path / "plan"), Path.iterdir

    def while_another_begins(folder: Path) -> Iterator[Path]:
        if folder == tmp_path / "plan/bank":
            monkeypatch.undo()
            other.begin()
        return iterdir(folder)

    (tmp_path / "plan/bank").mkdir()
    other, parts = (BankParts.of(Ear(), Tones(), plan.bank_path(0), shard_clips=SHARD) for _ in range(2))
    monkeypatch.setattr(Path, "iterdir", while_another_begins)
    parts.begin()
    assert work(plan).remaining == 0
    assert visible_files(plan.bank_path(0)) == visible_files(serial_bank(tmp_path / "serial"))


@pytest.mark.parametrize(("given", "chosen"), [(None, 5), (2, 2)])
def test_workers_of_one_machine_share_its_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: int | None, chosen: int
) -> None:
    counts = []

    def counted(clips: Any, clip_loader: Any, workers: int) -> Any:
        counts.append(workers)
        return nullcontext(map(clip_loader.load, clips))

    sizes = {"train": 256, "validation": 8, "test": 8}
    plan = plan_toy(tmp_path, dataset_options={"sizes": sizes}, unit_clips=256)
    monkeypatch.setattr(_loader, "available_cores", lambda: 40)
    monkeypatch.setattr(_pipeline, "loaded", counted)
    Worker(plan, loader_workers=given, progress=False, sharing=2).run([0])
    assert counts == [chosen]


# Suites


@pytest.mark.parametrize("suite", [PLAIN, SOBOL], ids=["plain", "sobol"])
def test_a_suite_that_is_planned_ends_in_the_same_records(tmp_path: Path, suite: Any) -> None:
    suite = replace(suite, probes=(*suite.probes, FINETUNED), datasets=(DatasetSpec("crossed", folds=(1, 2)),))
    whole = run_quietly(suite, tmp_path / "whole")
    plan, _ = plan_suite(suite, tmp_path / "units", unit_clips=64)
    kinds = [unit.kind for unit in plan.units]
    assert kinds == ["extract"] + 2 * (2 * ["study"] + 2 * ["finetune"])
    last = plan.units[-1]
    assert isinstance(last, StudyUnit)
    assert (last.seeds, last.search, last.after) == ((1,), False, last.id - 1)
    assert work(plan, last.id).done == 2  # with the search among learning rates
    assert work(plan).remaining == 0
    assert Status.of(plan).complete
    assert reproducible(Store(tmp_path / "units/results")) == reproducible(whole.store)
    assert [file.name for file in (tmp_path / "units/banks").iterdir()] == [
        file.name for file in (tmp_path / "whole/banks").iterdir()
    ]


def test_studies_that_were_finished_before_are_done_in_a_new_plan(tmp_path: Path) -> None:
    run_quietly(PLAIN, tmp_path)
    plan, runs = plan_suite(PLAIN, tmp_path)
    assert (runs.runs, Status.of(plan).complete) == ((), True)
    (record, *_) = list(Store(tmp_path / "results"))
    Store(tmp_path / "results").remove(record)
    assert len(Status.of(plan).missing) == 1
    assert (work(plan).done, Status.of(plan).complete) == (1, True)


def test_a_study_waits_for_its_bank(tmp_path: Path) -> None:
    plan, _ = plan_suite(PLAIN, tmp_path)
    study = next(unit for unit in plan.units if unit.kind == "study")
    with claims.claim(plan.claims, "unit-0"):
        worker = Worker(plan, loader_workers=0, progress=False)
        thread = threading.Thread(target=worker.run)
        thread.start()
        time.sleep(1.5)
        done = Status.of(plan).done
        assert 0 not in done
        assert study.id not in done
    thread.join(60)
    assert Status.of(plan).complete


def test_a_run_that_fails_fails_its_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from otoscope.bench.jobs import probe

    plan, _ = plan_suite(PLAIN, tmp_path)
    evaluate = probe.evaluation.evaluate

    def failing(fitted: Any, *rest: Any, **options: Any) -> Any:
        if options["probe"] == "linear":
            raise RuntimeError("no evaluation")
        return evaluate(fitted, *rest, **options)

    monkeypatch.setattr(probe.evaluation, "evaluate", failing)
    summary = work(plan)
    assert len(summary.failed) == 1
    assert "ear x tones, linear, seed 0: RuntimeError: no evaluation" in str(Status.of(plan))
    monkeypatch.setattr(probe.evaluation, "evaluate", evaluate)
    plan.forget_failures()
    assert work(plan).remaining == 0


# Status


def test_a_claimed_unit_is_running(tmp_path: Path) -> None:
    plan = plan_toy(tmp_path)
    with claims.claim(plan.claims, "unit-4"):
        text = str(Status.of(plan))
    assert "0 of 7 units done, 1 running, 6 waiting, 0 failed" in text
    assert (
        f"running 4: validation 16-23 of tones by ear, on {os.uname().nodename} (process {os.getpid()}) since" in text
    )


@pytest.mark.parametrize(("numbers", "text"), [([], ""), ([4], "4"), ([0, 1, 2, 5, 7, 8], "0-2,5,7-8")])
def test_missing_units_are_written_as_an_array(numbers: list[int], text: str) -> None:
    assert array_specification(numbers) == text


@pytest.mark.parametrize(
    ("variables", "number"),
    [
        ({"OTOSCOPE_UNIT": "9", "SLURM_ARRAY_TASK_ID": "5"}, 9),
        ({"SLURM_ARRAY_TASK_ID": "5"}, 5),
        ({"JOB_COMPLETION_INDEX": "2", "OTOSCOPE_UNIT_OFFSET": "10"}, 12),
    ],
)
def test_the_environment_names_a_unit(variables: dict[str, str], number: int) -> None:
    assert unit_of_environment(variables) == number


@pytest.mark.parametrize("name", ["OTOSCOPE_UNIT", "OTOSCOPE_UNIT_OFFSET", "SLURM_ARRAY_TASK_ID"])
def test_a_variable_that_is_no_number_is_refused_by_name(name: str) -> None:
    with pytest.raises(PlanError, match=f"{name} is 'x'"):
        unit_of_environment({"SLURM_ARRAY_TASK_ID": "1", name: "x"})


def test_an_environment_without_an_index_is_refused() -> None:
    with pytest.raises(PlanError, match="--index-env needs SLURM_ARRAY_TASK_ID"):
        unit_of_environment({"SLURM_JOB_ID": "1"})


def test_the_state_of_many_units_is_read_in_seconds(tmp_path: Path) -> None:
    toy = plan_toy(tmp_path / "toy").layout
    first = plan_toy(tmp_path / "toy").units[0]
    assert isinstance(first, ExtractUnit)
    many = [replace(first, id=i, first=i, end=i + 1) for i in range(20_000)]
    plan = PlanFolder.create(tmp_path / "many", Layout(toy.banks), many)
    BankParts.of(Ear(), Tones(), plan.bank_path(0), shard_clips=SHARD).begin()
    folder = plan.bank_path(0) / "train"
    for number in range(0, 20_000, 2):
        (folder / f"shard-{number:05d}.safetensors").touch()
    start = time.perf_counter()
    status = Status.of(PlanFolder.read(tmp_path / "many"))
    assert time.perf_counter() - start < 5  # 20 times faster than needed for a million in 250 s
    assert (len(status.done), status.missing[:3]) == (10_000, [1, 3, 5])
