"""Claims: one process at a time has a part of the work, and the claims of processes that were killed expire."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from otoscope.bench import claims

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs the process numbers of a POSIX system")


def write_claim(file: Path, *, machine: str, pid: int) -> None:
    """The claim of another process."""
    file.write_text(json.dumps({"machine": machine, "pid": pid}))


def ended_process() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_a_part_that_is_claimed_is_refused_until_the_claim_ends(tmp_path: Path) -> None:
    with claims.claim(tmp_path / "claims", "part") as first:
        with claims.claim(tmp_path / "claims", "part") as second:
            assert (first, second) == (True, False)
        with claims.claim(tmp_path / "claims", "part.2") as other:
            assert other
    with claims.claim(tmp_path / "claims", "part") as again:
        assert again
    assert list((tmp_path / "claims").iterdir()) == []


def test_an_error_ends_a_claim(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), claims.claim(tmp_path, "part"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("own_number", [False, True])
def test_the_claim_of_a_process_that_has_ended_expires_at_once(tmp_path: Path, own_number: bool) -> None:
    pid = os.getpid() if own_number else ended_process()
    write_claim(tmp_path / "part.3", machine=claims._machine(), pid=pid)
    with claims.claim(tmp_path, "part") as claimed:
        assert claimed
        assert sorted(file.name for file in tmp_path.iterdir()) == ["part.3", "part.4"]
    assert list(tmp_path.iterdir()) == []


def test_the_claim_of_another_machine_expires_when_its_file_no_longer_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr(claims.time, "monotonic", lambda: clock)
    file = tmp_path / "part.0"
    write_claim(file, machine="another", pid=ended_process())

    def claimed_after(seconds: float) -> bool:
        nonlocal clock
        clock += seconds
        with claims.claim(tmp_path, "part") as claimed:
            return claimed

    os.utime(file, (0, 0))  # the clock of the other machine is wrong by decades
    assert not claimed_after(0)
    assert not claimed_after(claims.EXPIRY - 1)
    os.utime(file, (1, 1))
    assert not claimed_after(2)
    assert not claimed_after(claims.EXPIRY - 1)
    assert claimed_after(2)


def test_the_file_of_a_claim_changes_while_the_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT", 0.01)
    with claims.claim(tmp_path, "part"):
        os.utime(tmp_path / "part.0", (0, 0))
        deadline = time.monotonic() + 5
        while (tmp_path / "part.0").stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / "part.0").stat().st_mtime > 0


def test_the_claim_of_a_process_that_its_parent_has_not_awaited_expires_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    write_claim(tmp_path / "part.0", machine=claims._machine(), pid=process.pid)
    with claims.claim(tmp_path, "part") as claimed:
        assert claimed
    process.wait()


def test_a_claim_is_complete_from_its_first_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link, texts = os.link, []

    def look(source: Path, target: Path) -> None:
        texts.append((target.exists(), json.loads(Path(source).read_text())["pid"]))
        link(source, target)

    monkeypatch.setattr(os, "link", look)
    with claims.claim(tmp_path, "part") as claimed:
        assert claimed
        assert [file.name for file in tmp_path.iterdir()] == ["part.0"]
    assert texts == [(False, os.getpid())]


def test_claims_work_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Path) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    with claims.claim(tmp_path, "part") as first, claims.claim(tmp_path, "part") as second:
        assert (first, second) == (True, False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"machine": 1, "pid": "x"}'])
def test_a_claim_that_is_being_written_is_respected(tmp_path: Path, text: str) -> None:
    (tmp_path / "part.0").write_text(text)
    with claims.claim(tmp_path, "part") as claimed:
        assert not claimed


def test_of_several_threads_one_at_a_time_has_an_expired_claim(tmp_path: Path) -> None:
    write_claim(tmp_path / "part.0", machine=claims._machine(), pid=ended_process())
    inside, most, entered = [0], [0], []

    def work() -> None:
        for _ in range(50):
            with claims.claim(tmp_path, "part") as claimed:
                if claimed:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    entered.append(1)
                    time.sleep(0.0005)
                    inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert len(entered) > 6
