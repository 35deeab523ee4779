"""The faults of the fault campaign: each is caused many times, and its consequences are counted."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import campaign_audio
from campaign_work import (
    PLUGIN,
    Work,
    bench,
    error_of,
    extract,
    finetune,
    finish,
    finished,
    is_clear,
    kill_after,
    results,
    start,
)
from otoscope import bank as banks

NOBODY = 65534
WORKS: dict[str, Work] = {"extract": extract, "bench": bench, "finetune": finetune}


@dataclass
class Count:
    """What one fault did.

    Parameters
    ----------
    fault : the fault.
    cases : how often it was caused.
    lost : finished shards, records and trials that were lost.
    different : results that differ from those of an undisturbed run, without a message.
    unclear : errors without a clear message.
    notes : the first errors of the last two kinds.
    """

    fault: str
    cases: int = 0
    lost: int = 0
    different: int = 0
    unclear: int = 0
    notes: list[str] = field(default_factory=list)

    def error(self, text: str) -> None:
        """Count an error that is not clear."""
        if text and not is_clear(text):
            self.unclear += 1
            self.notes.append(text[:300])

    def compare(self, folder: Path, whole: Path) -> None:
        """Count different results."""
        if results(folder) != results(whole):
            self.different += 1
            self.notes.append(f"{folder}: {results(folder)} instead of {results(whole)}"[:600])


class Campaign:
    """A series of faults in one folder, with random numbers of a seed.

    Parameters
    ----------
    folder : an empty folder.
    seed : seed of the random numbers.
    names : the kinds of work that are disturbed.
    """

    def __init__(self, folder: Path, seed: int, names: Iterable[str] = tuple(WORKS)) -> None:
        self.folder, self.rng, self._number = folder, random.Random(seed), 0
        self.whole: dict[str, Path] = {}
        self.seconds: dict[str, float] = {}
        for name in names:
            work = WORKS[name]
            self.whole[name] = folder / f"whole-{name}"
            work(folder / f"first-{name}")  # in this process, so that no other one has to import anything
            begin = time.monotonic()
            if error := finish(work, self.whole[name]):
                raise RuntimeError(f"the undisturbed {name} failed: {error}")
            self.seconds[name] = time.monotonic() - begin

    def new_folder(self) -> Path:
        """A folder for the next case."""
        self._number += 1
        return self.folder / f"case-{self._number}"

    def kills(self, name: str, number: int, *, clock: bool = False) -> Count:
        """Kill a process at random instants, and let others continue; with `clock`, each has another time."""
        count = Count(f"SIGKILL of {name}" + (" while the clock jumps" if clock else ""))
        folder = self.new_folder()
        while count.cases < number:
            before, jump = finished(folder), partial(self._jump, folder) if clock else lambda: None
            killed = kill_after(WORKS[name], folder, self.seconds[name] * self.rng.uniform(0.05, 0.9), jump)
            count.cases += killed
            lost = before - finished(folder)
            count.lost += len(lost)
            count.notes += [f"lost: {item}"[:300] for item in lost]
            if not killed or count.cases == number:
                count.error(finish(WORKS[name], folder))
                count.compare(folder, self.whole[name])
                folder = self.new_folder()
        return count

    def _jump(self, folder: Path) -> None:
        """Set the clock of this process, and the times of all files, to random values within ten years."""
        real, offset = time.time, self.rng.uniform(-3e8, 3e8)
        time.time = lambda: real() + offset
        for path in folder.rglob("*"):
            os.utime(path, (time.time(), time.time() + self.rng.uniform(-3e8, 3e8)))

    def two_processes(self, number: int) -> Count:
        """Start two suites in one folder and kill one of them; the other one must end well, with the same results."""
        count = Count("two suites in one folder, one killed")
        for _ in range(number):
            folder, rest = self.new_folder(), self.seconds["bench"] * self.rng.uniform(0.1, 1.2)
            killed, other = start(bench, folder), start(bench, self._beside(folder))
            time.sleep(rest)
            os.kill(killed, signal.SIGKILL)
            os.waitpid(killed, 0)
            count.error(error_of(other, self._beside(folder)))
            count.compare(folder, self.whole["bench"])
            count.cases += 1
        return count

    def _beside(self, folder: Path) -> Path:
        """Another path of the same folder, so that both processes have their own note of errors."""
        link = folder.with_name(f"{folder.name}-link")
        if not link.is_symlink():
            folder.mkdir(exist_ok=True)
            link.symlink_to(folder.name, target_is_directory=True)
        return link

    def limits(self, name: str, number: int) -> Count:
        """Let every write beyond a random position of a file fail, then continue without this limit."""
        count, sizes = Count(f"writes of {name} that fail"), [p.stat().st_size for p in self._files(self.whole[name])]
        for _ in range(number):
            folder, limit = self.new_folder(), int(self.rng.uniform(0, 1.2) * self.rng.choice(sizes))
            count.error(finish(WORKS[name], folder, partial(_limit_files, limit)))
            self._continue(count, name, folder)
        return count

    def full_disk(self, name: str, number: int) -> Count:
        """Fill a small disk, then enlarge it and continue. Needs root and `mount`; no case otherwise."""
        count, total = Count(f"full disk during {name}"), sum(p.stat().st_size for p in self._files(self.whole[name]))
        for _ in range(number):
            disk = self.new_folder()
            disk.mkdir()
            size = f"size={int(total * self.rng.uniform(0.05, 1.5)) + 4096}"
            if subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(disk)], capture_output=True).returncode:
                break
            try:
                count.error(finish(WORKS[name], disk / "out"))
                subprocess.run(["mount", "-o", "remount,size=256m", str(disk)], check=True)
                self._continue(count, name, disk / "out")
            finally:
                subprocess.run(["umount", str(disk)], check=True)
        return count

    def _continue(self, count: Count, name: str, folder: Path) -> None:
        count.error(finish(WORKS[name], folder))
        count.compare(folder, self.whole[name])
        count.cases += 1

    def read_only(self, name: str) -> Count:
        """Work in a folder that cannot be written to, then continue where it can."""
        count, folder = Count(f"read-only disk during {name}"), self.new_folder()
        folder.mkdir()
        folder.chmod(0o555)
        error = finish(WORKS[name], folder, lambda: os.setuid(NOBODY) if os.getuid() == 0 else None)
        count.error(error or "no error in a folder that cannot be written to")
        folder.chmod(0o755)
        self._continue(count, name, folder)
        return count

    def dead_workers(self, number: int) -> Count:
        """Kill one of two workers, as the system does when memory runs out, then continue."""
        count, work = Count("worker killed for its memory"), partial(bench, workers=2, plugins=[PLUGIN])
        for _ in range(number):
            folder = self.new_folder()
            child = start(work, folder)
            while not (workers := _children(child)):
                time.sleep(0.05)
            time.sleep(self.rng.uniform(0, 3))
            workers = _children(child)
            if workers:
                os.kill(self.rng.choice(workers), signal.SIGKILL)
            error = error_of(child, folder)
            if "memory" not in error:
                count.error(error)
            self._continue(count, "bench", folder)
        return count

    def damages(self, name: str, number: int) -> Count:
        """Damage a random file of a finished folder. Another call must report it, or give the same results."""
        count = Count(f"damaged file after {name}")
        for _ in range(number):
            folder = self.new_folder()
            shutil.copytree(self.whole[name], folder)
            file = self.rng.choice(self._files(folder))
            self._damage(file)
            error = finish(self._and_read(WORKS[name]), folder)
            count.error(error)
            if not error and (changed := results(folder)) != results(self.whole[name]):
                count.different += 1
                count.notes.append(f"{file.relative_to(folder)}: {changed}"[:300])
            count.cases += 1
            shutil.rmtree(folder)
        return count

    def _and_read(self, work: Work) -> Work:
        """The work, and reading all that it stored."""

        def work_and_read(folder: Path) -> None:
            work(folder)
            results(folder)
            for manifest in folder.rglob("manifest.json"):
                banks.open(manifest.parent).verify()

        return work_and_read

    def _damage(self, file: Path) -> None:
        data = bytearray(file.read_bytes())
        kind, at = (
            self.rng.choice(["bit", "bytes", "cut", "empty", "delete", "longer"]),
            self.rng.randrange(len(data) or 1),
        )
        if kind == "delete":
            file.unlink()
            return
        if kind == "bit" and data:
            data[at] ^= 1 << self.rng.randrange(8)
        elif kind == "bytes":
            data[at : at + 64] = self.rng.randbytes(len(data[at : at + 64]))
        elif kind == "longer":
            data += self.rng.randbytes(16)
        else:
            del data[at if kind == "cut" else 0 :]
        file.write_bytes(bytes(data))

    def _files(self, folder: Path) -> list[Path]:
        return sorted(path for path in folder.rglob("*") if path.is_file())

    def audio(self, number: int) -> Count:
        """Decode audio files that were changed at random."""
        count = Count("changed audio files")
        count.cases, count.different, count.unclear, count.notes = campaign_audio.decode_changed(
            self.new_folder(), number, self.rng
        )
        return count


def _limit_files(size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _children(pid: int) -> list[int]:
    text = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in text.splitlines() if "spawn_main" in line]
