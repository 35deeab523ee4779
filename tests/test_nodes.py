"""Workers on two machines that share a folder, each in namespaces of its own: another host name, another network."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from helpers_units import SLOW_TOY, plan_toy, serial_bank, start, visible_files
from otoscope.bench.claims import Owner
from otoscope.bench.units import PlanFolder, Status

PLUGIN = f"""
from otoscope.bench import claims
claims.HEARTBEAT, claims.EXPIRY = 0.5, 5.0
{SLOW_TOY.replace("0.1", "0.05")}
"""
"""A slow encoder, and claims that expire after five seconds instead of two minutes."""


def _namespaces() -> Sequence[str]:
    """The command that starts a process in a network and with a host name of its own; empty where it is not allowed."""
    for options in ([], ["--map-root-user"]):
        command = ["unshare", *options, "--net", "--uts"]
        if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    return ()


NAMESPACES = _namespaces()


@pytest.mark.skipif(not NAMESPACES, reason="needs the right to create namespaces (unshare)")
@pytest.mark.usefixtures("plugin_folder", "toy_plugins")
def test_a_node_finishes_what_another_one_was_doing_when_it_was_lost(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(PLUGIN)
    plan = plan_toy(tmp_path / "plan")
    with _node("node-a", tmp_path) as lost, _node("node-b", tmp_path, stderr=subprocess.PIPE) as other:
        owners = _wait_for(plan, {"node-a", "node-b"})
        unit = next(number for number, owner in owners.items() if owner.machine == "node-a")
        lost.kill()
        assert Status.of(plan).running[unit].machine == "node-a"  # another machine cannot see that its process ended
        _, text = other.communicate(timeout=120)
        assert other.returncode == 0
    assert f"node-b: unit {unit} " in text
    assert Status.of(plan).complete
    assert visible_files(plan.bank_path(0)) == visible_files(serial_bank(tmp_path / "serial"))


def _node(name: str, folder: Path, **options: int) -> subprocess.Popen[str]:
    """Start a worker with this host name."""
    named = 'echo "$0" > /proc/sys/kernel/hostname; exec "$@"'
    before = [*NAMESPACES, "sh", "-c", named, name]
    arguments = ["work", "plan", "--plugin", "toy.py", "--loader-workers", "0"]
    return start(*arguments, folder=folder, before=before, **options)


def _wait_for(plan: PlanFolder, names: set[str]) -> dict[int, Owner]:
    """What runs on each node, once all of them have claimed units."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        owners = Status.of(plan).running
        if {owner.machine for owner in owners.values()} == names:
            return owners
        time.sleep(0.05)
    raise TimeoutError(f"{Status.of(plan)}")
