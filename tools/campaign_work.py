"""The work that the fault campaign disturbs: a small encoder, a small data set, and what is finished in a folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import resource
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from otoscope import bank as banks
from otoscope import datasets, encoders, run_suite
from otoscope.bench.specs import DatasetSpec, EncoderSpec, FinetuneSpec, ProbeSpec
from otoscope.bench.suites import Suite
from otoscope.datasets import Dataset
from otoscope.encoders import Encoder, Features
from otoscope.report.agreement import disagreements
from otoscope.report.rows import summarise
from otoscope.results import Store
from otoscope.search import SearchSpec
from otoscope.types import Clip, Task, Tokens, TokenShape
from otoscope.warning import OtoscopeWarning

PLUGIN = Path(__file__).resolve()
RATE, TONES = 1000, {"low": 80.0, "middle": 200.0, "high": 360.0}
SIZES = {"train": 36, "validation": 18, "test": 18}
Work = Callable[[Path], object]


class Bands(Encoder):
    """A linear layer on spectra of 50 ms, with random weights."""

    revision = 1
    sample_rate, front_end_id, control = RATE, "campaign-bands", True
    shape = TokenShape(layers=1, freq=1, dim=12, has_cls=False, frame_rate=20)

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.body = torch.nn.Linear(24, 12)

    def front_end(self, batch: Any) -> Features:
        spectra = torch.fft.rfft(batch.waves.unfold(1, 50, 50)).abs()[..., :24]
        return Features((spectra + 0.1).log(), batch.lengths // 50)

    def embed(self, features: Features) -> Tokens:
        return Tokens(torch.tanh(self.body(features.x))[:, None, :, None])

    def depth_groups(self) -> list[list[torch.nn.Parameter]]:
        return [list(self.body.parameters())]


class Beeps(Dataset):
    """Half a second of noise with one of three tones."""

    revision = 1
    digest = "campaign-beeps-1"
    task = Task(tuple(TONES), "multi-class", "accuracy")

    def clips(self, split: str) -> Sequence[Clip]:
        return [self._clip(split, i) for i in range(SIZES[split])]

    def _clip(self, split: str, i: int) -> Clip:
        label = list(TONES)[i % 3]
        rng = np.random.default_rng([list(SIZES).index(split), i])
        phase = 2 * np.pi * TONES[label] * np.arange(RATE // 2) / RATE
        wave = (rng.normal(0, 1, RATE // 2) + np.sin(phase)).astype(np.float32)
        return Clip(f"{split}-{i}", lambda: wave, RATE, (label,), (), split)


for registry, name, kind in (
    (encoders.registry, "campaign-bands", Bands),
    (datasets.registry, "campaign-beeps", Beeps),
):
    if name not in registry.names():
        registry.register(name)(kind)

SUITE = Suite(
    name="campaign",
    about="what the fault campaign disturbs",
    encoders=(EncoderSpec("campaign-bands", "bands"),),
    datasets=(DatasetSpec("campaign-beeps"),),
    probes=(ProbeSpec("linear", options={"solver": "adamw"}), ProbeSpec("protobin")),
    search=SearchSpec("tpe", {"trials": 4}),
    seeds=2,
    epochs=3,
    batch_size=12,
    control=False,
)
TUNED = FinetuneSpec("finetune", options={"epochs": 3, "batch_size": 18, "lrs": [1e-3, 1e-2], "seeds": 2})


def extract(folder: Path) -> None:
    """Encode the data set."""
    encoder, dataset = encoders.create("campaign-bands"), datasets.create("campaign-beeps")
    banks.extract(encoder, dataset, folder / "bank", shard_clips=3, progress=False)


def bench(folder: Path, **options: Any) -> None:
    """Run the suite, and check the records against their predictions. A warning counts as a report."""
    result = run_suite(SUITE, folder, progress=False, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error", OtoscopeWarning)
        problems = [failure.error for failure in result.failures] or list(disagreements(summarise(result.store)))
    if problems:
        raise RuntimeError(f"reported: {problems[0]}")


def finetune(folder: Path) -> None:
    """Fine-tune with two learning rates and two seeds."""
    result = run_suite(dataclasses.replace(SUITE, probes=(TUNED,), search=None), folder, progress=False)
    if result.failures:
        raise RuntimeError(f"reported: {result.failures[0].error}")


def results(folder: Path) -> list[Any]:
    """What must not depend on faults: the files of the bank of `extract`, and the records, sorted."""
    bank = sorted(path for path in (folder / "bank").glob("*/*") if not path.name.startswith("."))
    records = Store(folder / "results") if (folder / "results").exists() else ()
    return [[path.name, _digest(path)] for path in bank] + [
        [r.encoder, r.dataset, r.probe, r.seed, r.lr, r.value] for r in records
    ]


def finished(folder: Path) -> set[str]:
    """Shards, records and trials that are stored in a folder."""
    shards = [f"{path} {_digest(path)}" for path in folder.rglob("shard-*.safetensors")]
    records = [f"{path} {_digest(path)}" for path in folder.glob("results/records/*.json")]
    lists = [json.loads(path.read_text()) for path in folder.glob("search/*.json")]
    return {*shards, *records, *(json.dumps(trial) for trials in lists for trial in trials)}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def note_of(folder: Path) -> Path:
    """The file for the error of the work in a folder. It is outside, because the disk of the folder may be full."""
    return Path(tempfile.gettempdir(), f"otoscope-campaign-{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}")


def start(work: Work, folder: Path, before: Callable[[], object] = lambda: None) -> int:
    """Start work in a forked process, which writes its error into `note_of` the folder; return its number."""
    child = os.fork()
    if child:
        return child
    status, note = 1, note_of(folder)
    try:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, 2)
        note.unlink(missing_ok=True)
        handle = note.open("w")
        before()
        work(folder)
        status = 0
    except BaseException as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        handle.write(f"{type(error).__name__}: {error}")
        handle.flush()
        status = 2
    finally:
        os._exit(status)


def finish(work: Work, folder: Path, before: Callable[[], object] = lambda: None) -> str:
    """Do work in a forked process; return its error, or an empty text."""
    return error_of(start(work, folder, before), folder)


def error_of(child: int, folder: Path) -> str:
    """Wait for a process that `start` returned; return its error, or an empty text."""
    status, note = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), note_of(folder)
    text = note.read_text() if note.exists() else ""
    note.unlink(missing_ok=True)
    return "" if status == 0 else text if status == 2 else f"the process ended with the status {status}"


def kill_after(work: Work, folder: Path, seconds: float, before: Callable[[], object] = lambda: None) -> bool:
    """Start work and kill the process after some seconds; return whether it was still running."""
    child = start(work, folder, before)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def is_clear(error: str) -> bool:
    """Whether an error has one line and is of a kind that the command line prints without a traceback."""
    kinds = ("ValueError", "OSError", "PermissionError", "ConnectionError", "BankError", "DamagedError", "AudioError")
    kinds += ("MismatchError", "IncompleteError", "RuntimeError: reported", "FileExistsError", "MemoryError")
    kinds += ("OtoscopeWarning",)
    return error.startswith(kinds) and "\n" not in error.strip() and len(error) < 2000
