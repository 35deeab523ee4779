"""The search in a PostgreSQL database, on the server that OTOSCOPE_TEST_POSTGRESQL names; tests create databases there.

OTOSCOPE_TEST_POSTGRESQL=postgresql+psycopg2://postgres@127.0.0.1:5432/postgres pytest tests/test_postgresql.py
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers_processes import fork, status_of
from helpers_search import problem, score_trials
from helpers_suites import reproducible
from otoscope import run_suite
from otoscope.bench.runner import prepare
from otoscope.bench.specs import DatasetSpec, EncoderSpec, ProbeSpec
from otoscope.bench.suites import Suite
from otoscope.search import SearchSpec, Storage
from otoscope.search.tpe import TpeSearch

SERVER = os.environ.get("OTOSCOPE_TEST_POSTGRESQL", "")
pytestmark = pytest.mark.skipif(not SERVER, reason="OTOSCOPE_TEST_POSTGRESQL names no server")
SUITE = Suite(
    name="toy",
    about="a toy",
    encoders=(EncoderSpec("ear"),),
    datasets=(DatasetSpec("tones"),),
    probes=(ProbeSpec("linear"), ProbeSpec("protobin")),
    search=SearchSpec("tpe", {"trials": 6}),
    seeds=2,
    epochs=6,
    batch_size=16,
)
PLUGIN = """
from otoscope import datasets, encoders
from toys import Ear, Tones
encoders.register("ear")(Ear)
datasets.register("tones")(Tones)
"""


def execute(statement: str) -> None:
    import sqlalchemy

    engine = sqlalchemy.create_engine(SERVER, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(statement))
    engine.dispose()


def tpe_search(folder: Path, url: str, **changed: Any) -> TpeSearch:
    return TpeSearch(problem(folder, database=url, **changed), trials=6, min_epochs=None)


def drop_connections(name: str) -> None:
    execute(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")


@pytest.fixture
def name() -> Iterator[str]:
    """An empty database."""
    name = f"otoscope_{uuid.uuid4().hex[:12]}"
    execute(f"create database {name}")
    yield name
    drop_connections(name)
    execute(f"drop database {name}")


@pytest.fixture
def url(name: str) -> str:
    return f"{SERVER.rpartition('/')[0]}/{name}"


@pytest.fixture
def plugin(toy_plugins: None, tmp_path: Path) -> Path:  # noqa: ARG001
    (tmp_path / "toy_plugin.py").write_text(PLUGIN)
    return tmp_path / "toy_plugin.py"


def run_suite_with_workers(out: Path, url: str, plugin: Path) -> None:
    run_suite(SUITE, out, storage=url, workers=2, plugins=[plugin], progress=False)


def test_a_killed_and_resumed_suite_of_two_workers_gives_the_results_of_sqlite(
    tmp_path: Path, url: str, plugin: Path
) -> None:
    whole = run_suite(SUITE, tmp_path / "whole", progress=False)
    rng, kills = random.Random(0), 0
    while kills < 4:
        child = multiprocessing.get_context("spawn").Process(
            target=run_suite_with_workers, args=(tmp_path / "killed", url, plugin)
        )
        child.start()
        child.join(rng.uniform(4, 14))
        if not child.is_alive():
            break
        child.kill()
        child.join()
        kills += 1
    assert kills
    last = run_suite(SUITE, tmp_path / "killed", storage=url, workers=2, plugins=[plugin], progress=False)
    assert last.failures == ()
    assert reproducible(last.store) == reproducible(whole.store)
    assert prepare(SUITE, tmp_path / "killed", storage=url).runs == ()


def test_a_connection_dropped_between_two_batches_loses_no_trial(tmp_path: Path, name: str, url: str) -> None:
    search = tpe_search(tmp_path, url, trials_at_once=2)

    def score_after_drop(batch: Any, watch: Any) -> Any:
        drop_connections(name)
        return score_trials(batch, watch)

    while search.step(score_after_drop):
        pass
    assert len(search.trials) == 6
    assert TpeSearch.kept(Storage(folder=tmp_path, name="another", database=url)) == []
    assert all(trial.error is None for trial in search.trials)


def prepare_at(url: str, start: float) -> None:
    import optuna  # noqa: F401
    import psycopg2  # noqa: F401
    import sqlalchemy  # noqa: F401

    time.sleep(max(0.0, start - time.time()))
    TpeSearch.prepare(Storage(folder=Path(), name="s", database=url))


def test_processes_that_open_an_empty_database_at_the_same_time_all_succeed(url: str) -> None:
    start = time.time() + 12
    spawn = multiprocessing.get_context("spawn")
    children = [spawn.Process(target=prepare_at, args=(url, start)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4


def test_two_searches_of_one_study_store_each_trial_once(tmp_path: Path, url: str) -> None:
    first, second = (tpe_search(tmp_path, url, trials_at_once=3) for _ in range(2))

    def score_after_other_search(batch: Any, watch: Any) -> Any:
        second.step(score_trials)
        return score_trials(batch, watch)

    first.step(score_after_other_search)
    assert len(first.trials) == 3
    assert first.trials == second.trials


def test_two_processes_in_one_folder_give_the_results_of_one(tmp_path: Path, url: str, toy_plugins: None) -> None:
    del toy_plugins
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a forked process has no other threads to wait for
    try:
        whole = run_suite(SUITE, tmp_path / "whole", progress=False)

        def run() -> bool:
            result = run_suite(SUITE, tmp_path / "shared", storage=url, progress=False)
            return result.failures == () and reproducible(result.store) == reproducible(whole.store)

        assert [status_of(child) for child in [fork(run), fork(run)]] == [0, 0]
    finally:
        torch.set_num_threads(threads)


def test_a_label_of_the_maximal_length_is_stored(tmp_path: Path, url: str, plugin: Path) -> None:
    del plugin
    suite = dataclasses.replace(SUITE, encoders=(EncoderSpec("ear", "e" * 200),), probes=SUITE.probes[:1], epochs=1)
    assert run_suite(suite, tmp_path, storage=url, progress=False).failures == ()
