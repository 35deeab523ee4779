"""Plant small faults in the source, one at a time, and count how many of them a test notices (mutation testing).

    python tools/mutation.py --packages ops metrics --number 40 --seed 0
    python tools/mutation.py --number 0                                    # only print what earlier calls measured

The faults are those of Cosmic Ray (https://cosmic-ray.readthedocs.io): another operator, another number, a negated
condition, a missing decorator, a loop without iterations. `faults.RemoveStatement` adds statements that are missing.
The source is never changed in place. Faults are planted in a copy of the repository, in a process that has already
imported torch and pytest, and the tests that call the changed function run first, so that most faults take a few
seconds. Of all places of a package at which there can be a fault, `--number` are drawn at random, and one fault for
each. A call with the same seed continues where an earlier one ended.

A fault is *caught* when a test fails, when the code cannot be imported, or when tests do not end. Faults that only
change annotations are left out. Other faults without any effect count as not caught, so that the true share of caught
faults is higher than the one that is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from difflib import unified_diff
from pathlib import Path

import mutation_tests
from callers import CallerPlugin, Callers, function_at
from faults import ROOT, Fault, count_places, draw

_IGNORED = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info", "otoscope-*")
_IMPORTED = ("pytest", "safetensors.torch", "scipy.stats", "sklearn.linear_model", "torch", "torch._dynamo")
"""Libraries that the tests import; they are imported once, before any fault is planted."""
_MEMORY = 6 << 30
"""Largest number of bytes that the tests of a fault may allocate."""
_WAITING = 10
"""Largest ratio of the time that tests take to the processor time that they may take."""
_IDLE = 60
"""Seconds without any processor time after which tests do not end, where the operating system tells the time."""


class Workbench:
    """A copy of the repository, in which tests are run in child processes that start with torch imported."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mutation-")
        self.root = Path(self._folder.name) / "copy"
        self.log, self._calls = self.root.parent / "log.txt", self.root.parent / "calls.json"
        self._known: dict[str, tuple[float, Callers]] = {}
        shutil.copytree(ROOT, self.root, ignore=_IGNORED)
        for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(variable, "1")  # a process with threads must not be forked
        for library in _IMPORTED:
            importlib.import_module(library)
        gc.freeze()  # the child processes do not search these objects for garbage

    def run(self, tests: Sequence[str], limit: float, *, trace: bool = False) -> tuple[str, float]:
        """Run tests in the copy.

        Parameters
        ----------
        tests : arguments of pytest, in this order, until one fails.
        limit : seconds of processor time after which the tests are ended. They are also ended when they wait for a
            minute, or take ten times as long.
        trace : whether to write the callers of all functions.

        Returns
        -------
        "passed" (also without a test), "failed", "unusable" (an error at import), "ended" (by a signal) or "endless",
        and the seconds of processor time.
        """
        start = moved = checked = time.monotonic()
        busy, child = 0, os.fork()
        if not child:
            self._test(tests, limit, trace)
        while time.monotonic() - moved < _IDLE and time.monotonic() - start < _WAITING * limit:
            done, status, usage = os.wait4(child, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                kind = "ended" if code < 0 else {0: "passed", 5: "passed", 1: "failed"}.get(code, "unusable")
                return "endless" if code == -signal.SIGXCPU else kind, usage.ru_utime + usage.ru_stime
            if time.monotonic() - checked > 1:
                checked, used = time.monotonic(), _processor_time(child)
                if used is None or used > busy:
                    busy, moved = used or 0, checked
            time.sleep(0.05)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return "endless", time.monotonic() - start

    def measure(self, test: str) -> tuple[float, Callers]:
        """The processor time of a file of tests without any fault, and what it calls. A test must not fail."""
        if test not in self._known:
            outcome, seconds = self.run([test], 1200, trace=True)
            if outcome != "passed":
                raise SystemExit(f"{test}: {outcome} without any fault\n{self.log.read_text(errors='replace')[-3000:]}")
            self._known[test] = seconds, json.loads(self._calls.read_text(encoding="utf-8"))
        return self._known[test]

    def plant(self, fault: Fault, changed: str) -> tuple[str, float]:
        """Run the tests of a module with a fault: those that call the changed function, and if they pass, all others.

        Returns
        -------
        As `run`.
        """
        tests, seconds = mutation_tests.tests_of(ROOT, fault.module), 0.0
        limit = 10 + 4 * sum(self.measure(test)[0] for test in tests)
        path = self.root / fault.module
        code = path.read_text(encoding="utf-8")
        function = f"{fault.module}:{function_at(code, fault.line)}"
        first = [name for test in tests for name in self.measure(test)[1].get(function, ())]
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()
        try:
            path.write_text(changed, encoding="utf-8")
            sys.dont_write_bytecode = True
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
            for chosen in filter(None, (first, tests)):
                outcome, more = self.run(chosen, limit)
                seconds += more
                if outcome != "passed":
                    break
            return outcome, seconds
        finally:
            path.write_text(code, encoding="utf-8")

    def _test(self, tests: Sequence[str], limit: float, trace: bool) -> None:
        """In the child process: import everything from the copy, and end with the exit status of pytest."""
        import resource

        import pytest

        status = 3
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), math.ceil(limit) + 1))
            os.chdir(self.root)
            os.environ["PYTHONPATH"] = str(self.root / "src")
            sys.path[:0] = [str(self.root / "src"), str(self.root / "tests")]
            log = os.open(self.log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            without = [f"-pno:{plugin}" for plugin in ("cacheprovider", "hypothesispytest")]
            arguments = ["-x", "-q", "--tb=short", *without, "--rootdir", str(self.root), *tests]
            status = int(pytest.main(arguments, [CallerPlugin(self.root, self._calls)] if trace else []))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


def _processor_time(session: int) -> int | None:
    """The processor time of the processes of a session, in ticks; None where there is no /proc."""
    total = None
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # the process has ended
            fields = file.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                total = (total or 0) + int(fields[11]) + int(fields[12])
    return total


def measure(packages: Sequence[str], number: int, seed: int, results: Path) -> None:
    """Plant the faults that `results` does not contain yet, and append the outcome of each."""
    known = {(row["seed"], Fault(**row["fault"])) for row in read(results)}
    bench = Workbench()
    results.parent.mkdir(parents=True, exist_ok=True)
    for package in packages:
        for fault, changed in draw(package, number, seed):
            if (seed, fault) in known:
                continue
            outcome, seconds = bench.plant(fault, changed)
            code = (ROOT / fault.module).read_text(encoding="utf-8")
            diff = list(unified_diff(code.splitlines(), changed.splitlines(), n=0, lineterm=""))[3:]
            row = {"package": package, "seed": seed, "fault": asdict(fault), "outcome": outcome, "diff": diff}
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{outcome:8} {seconds:6.1f} s  {fault.module}:{fault.line} {fault.operator}", flush=True)


def read(results: Path) -> list[dict]:
    """The outcomes of all faults that were planted so far."""
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()] if results.exists() else []


def report(rows: Sequence[dict]) -> str:
    """A table of the places and of the caught faults of each draw of a package, and the faults that were not caught."""
    lines = ["| package | seed | places | faults | caught | share |", "|:--|--:|--:|--:|--:|--:|"]
    for package, seed in dict.fromkeys((row["package"], row["seed"]) for row in rows):
        outcomes = [row["outcome"] for row in rows if (row["package"], row["seed"]) == (package, seed)]
        caught = len(outcomes) - outcomes.count("passed")
        counts = f"{count_places(package)} | {len(outcomes)} | {caught} | {caught / len(outcomes):.0%}"
        lines.append(f"| {package} | {seed} | {counts} |")
    for row in rows:
        if row["outcome"] == "passed":
            fault = row["fault"]
            where = f"{fault['module']}:{fault['line']} ({fault['operator']}, seed {row['seed']})"
            lines += ["", f"not caught: {where}", *row["diff"]]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--packages", nargs="+", default=list(mutation_tests.PACKAGES), metavar="NAME")
    parser.add_argument("--number", type=int, default=20, help="faults of each package (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw (default: 0)")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "mutation.jsonl", metavar="FILE")
    given = parser.parse_args()
    if given.number:
        measure(given.packages, given.number, given.seed, given.results)
    print(report(read(given.results)))


if __name__ == "__main__":
    main()
