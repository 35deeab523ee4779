"""The number of threads, and threads that sleep while they wait."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from otoscope import threads
from otoscope.cli import main

VARIABLES = ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "OMP_NUM_THREADS")


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "x")  # so that it is restored after the test
        monkeypatch.delenv(name)


def test_the_command_line_lets_waiting_threads_sleep_before_torch_is_imported() -> None:
    program = (
        "import os, sys; from otoscope import cli; assert 'torch' not in sys.modules\n"
        "try: cli.main(['list', '--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules; print(os.environ['OMP_WAIT_POLICY'], os.environ['KMP_BLOCKTIME'])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "PASSIVE 0"


def test_values_of_the_user_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    threads.let_waiting_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


@pytest.mark.usefixtures("plugin_folder")
def test_the_number_of_threads_is_that_of_torch_and_of_later_processes() -> None:
    before = torch.get_num_threads()
    try:
        main(["probe", "--probe", "linear", "--encoder", "missing", "--threads", "3"])
        assert torch.get_num_threads() == 3
        assert os.environ["OMP_NUM_THREADS"] == "3"
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity")
def test_cores_that_the_process_may_not_use_do_not_count() -> None:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert threads.available_cores() == 1
    finally:
        os.sched_setaffinity(0, cores)
