"""Kill the workers of a plan at random instants, and compare what they end with to the work of one process.

    python tools/worker_kills.py --on local:2 --kills 20
    python tools/worker_kills.py --on ray --kills 20              two nodes of Ray on this machine
    python tools/worker_kills.py --on slurm:array=2,partition=cpu --kills 20     a SLURM cluster that sees this folder

The work is a suite: a bank of twelve shards, the searches and final runs of two probes, and fine-tuning. A kill ends,
at random, a worker or the process that started them; on Ray a node as well; on SLURM the job (`scancel`), or it
requeues a task. After each kill the plan is launched again; once it is done, the bank is compared byte by byte and the
records value by value, and the next plan begins. The last line counts kills, plans, finished parts that were lost, and
differences. It needs Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from campaign_work import SUITE, TUNED, Bands, Beeps, finished
from otoscope import datasets, encoders, run_suite
from otoscope.bench.executors import WorkerOptions, create
from otoscope.bench.specs import DatasetSpec, EncoderSpec
from otoscope.bench.suites import Suite
from otoscope.bench.units import PlanFolder, Status, plan_suite
from otoscope.results import Store

SECONDS_PER_CLIP = float(os.environ.get("OTOSCOPE_KILLS_SECONDS", "0"))
SLOW = {"OTOSCOPE_KILLS_SECONDS": "0.02", "OMP_NUM_THREADS": "1"}
SIZES = {"train": 384, "validation": 192, "test": 192}


class SlowBands(Bands):
    """The encoder of the fault campaign; each clip takes `SECONDS_PER_CLIP` longer."""

    revision = 1

    def front_end(self, batch: Any) -> Any:
        time.sleep(SECONDS_PER_CLIP * len(batch.waves))
        return super().front_end(batch)


class ManyBeeps(Beeps):
    """The data set of the fault campaign with more clips."""

    revision = 1
    digest = "many-beeps-1"

    def clips(self, split: str) -> Any:
        return [self._clip(split, i) for i in range(SIZES[split])]


for registry, name, kind in (
    (encoders.registry, "slow-bands", SlowBands),
    (datasets.registry, "many-beeps", ManyBeeps),
):
    if name not in registry.names():
        registry.register(name)(kind)

WORK: Suite = dataclasses.replace(
    SUITE,
    encoders=(EncoderSpec("slow-bands", "bands"),),
    datasets=(DatasetSpec("many-beeps"),),
    probes=(*SUITE.probes, dataclasses.replace(TUNED, options={**TUNED.options, "epochs": 1})),
)


def output(folder: Path) -> tuple[dict[str, bytes], list[tuple[Any, ...]]]:
    """The files of the banks in the folder of a suite, and the values of its records."""
    files = [path for path in folder.glob("banks/**/*") if path.is_file()]
    visible = [path for path in files if path.name != "extraction.json" and path.name[0] != "."]
    records = [
        (r.encoder, r.dataset, r.probe, r.seed, r.metrics, r.protocol, r.lr, r.weight_decay)
        for r in Store(folder / "results")
    ]
    return {str(path.relative_to(folder)): path.read_bytes() for path in visible}, records


def launch(plan: Path, where: str) -> subprocess.Popen[bytes]:
    """Launch a plan in a process; its workers are slow enough to be killed."""
    environment = os.environ | SLOW
    arguments = [sys.executable, __file__, "--launch", str(plan), "--on", where]
    return subprocess.Popen(arguments, env=environment)


def launch_here(plan: Path, where: str) -> int:
    """Launch a plan in this process, and write the number of the SLURM job, if there is one, into its folder."""
    options = WorkerOptions(plugins=(Path(__file__).resolve(),), threads=1, loader_workers=0, progress=False)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        status = create(where).launch(PlanFolder.read(plan), options)
    if job := re.search(r"submitted job (\d+)", printed.getvalue()):
        (plan / "job").write_text(job[1])
    return status


def kill(plan: PlanFolder, process: subprocess.Popen[bytes], where: str, cluster: Any, rng: random.Random) -> str:
    """End a worker, or another part of the launch, at random; return the kind of that part."""
    owners = list(Status.of(plan).running.values())
    kinds = ["worker"] * bool(owners) + {"local": ["parent"], "ray": ["driver", "node"]}.get(
        where.partition(":")[0], []
    )
    job = (plan.path / "job").read_text() if (plan.path / "job").exists() else ""
    kinds += ["scancel", "requeue"] if job else []
    kind = rng.choice(kinds)
    if kind == "worker":
        with contextlib.suppress(ProcessLookupError):
            os.kill(rng.choice(owners).pid, signal.SIGKILL)
    elif kind in ("parent", "driver"):
        process.kill()
    elif kind == "node":
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        cluster.add_node(num_cpus=1)
    else:
        command = ["scancel", job] if kind == "scancel" else ["scontrol", "requeue", f"{job}_{rng.randrange(2)}"]
        subprocess.run(command, check=False, capture_output=True)
    return kind


def wait(process: subprocess.Popen[bytes], plan: PlanFolder, where: str) -> None:
    """Wait until the workers of a launch have ended."""
    process.wait()
    if where.startswith("slurm"):
        name = f"otoscope-{plan.path.name}"
        while subprocess.run(["squeue", "--noheader", "--name", name], capture_output=True, check=True).stdout:
            time.sleep(0.5)


def run(folder: Path, where: str, kills: int, seed: int, cluster: Any) -> None:
    """Launch plans and kill their workers until the number of kills is reached; print the counts."""
    rng, killed, plans, lost, different = random.Random(seed), dict[str, int](), 0, 0, 0
    run_suite(WORK, folder / "serial", progress=False)
    expected = output(folder / "serial")
    while sum(killed.values()) < kills:
        out = folder / f"killed-{plans}"
        plan, _ = plan_suite(WORK, out, path=out / f"plan-{plans}", unit_clips=64)
        while not Status.of(plan).complete:
            before = finished(out)
            process = launch(plan.path, where)
            while process.poll() is None and not Status.of(plan).running:
                time.sleep(0.2)
            delay = time.monotonic() + rng.uniform(0, 8)
            while time.monotonic() < delay and not Status.of(plan).complete:
                time.sleep(0.1)
            if sum(killed.values()) < kills and not Status.of(plan).complete:
                kind = kill(plan, process, where, cluster, rng)
                killed[kind] = killed.get(kind, 0) + 1
                print(f"plan {plans}: killed a {kind} after {len(Status.of(plan).done)} units", flush=True)
            wait(process, plan, where)
            lost += len(before - finished(out))
        plans += 1
        equal = output(out) == expected
        different += not equal
        print(f"plan {plans - 1}: done, {'equal' if equal else 'DIFFERENT'}", flush=True)
    print(
        f"{where}: {sum(killed.values())} kills {killed}, {plans} plans, {lost} lost, {different} different", flush=True
    )


@contextlib.contextmanager
def ray_cluster() -> Iterator[Any]:
    """Two nodes of Ray on this machine, whose address is in the environment."""
    from ray.cluster_utils import Cluster

    os.environ |= SLOW
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        yield cluster
    finally:
        cluster.shutdown()


def main() -> int:
    """Run the campaign, or, with --launch, launch one plan of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--on", required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--launch", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.launch:
        return launch_here(arguments.launch, arguments.on)
    folder = arguments.out or Path(tempfile.mkdtemp(prefix="otoscope-kills-"))
    with ray_cluster() if arguments.on.startswith("ray") else contextlib.nullcontext() as cluster:
        run(folder, arguments.on, arguments.kills, arguments.seed, cluster)
    return 0


if __name__ == "__main__":
    sys.exit(main())
