"""Actors of Ray: one for each card, or for each share of cores. Each claims units and writes shards itself.

No tokens go through the object store of Ray. All nodes see the folder of the plan and the bank under the same path. An
actor that dies, with its node or alone, is started again and goes on with other units; the claim of the unit that it
was doing expires. Ray is an extra: `pip install "otoscope[ray]"`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from otoscope.bench.executors.base import LOOK_SECONDS, Executor, WorkerOptions, status_of, variables_of_workers
from otoscope.bench.units import PlanFolder, Status
from otoscope.search import MissingExtraError

_RESTARTS = 10
"""How often an actor is started again."""


@dataclass(frozen=True)
class OnRay(Executor):
    """Actors on a cluster of Ray.

    Parameters
    ----------
    address : address of the cluster, such as "ray://head:10001" or "auto"; None for the one that `RAY_ADDRESS` names,
        or one that is started on this machine.
    """

    address: str | None = None

    def launch(self, plan: PlanFolder, options: WorkerOptions) -> int:
        """Start one actor for each card or share of cores, wait for all, and return the exit status."""
        ray = _import_ray()
        plan.forget_failures()
        started = not ray.is_initialized()
        if started:
            variables = variables_of_workers("OMP_WAIT_POLICY", "KMP_BLOCKTIME")
            ray.init(address=self.address, log_to_driver=options.progress, runtime_env={"env_vars": variables})
        try:
            shares, nodes = _shares(ray.cluster_resources(), options), sum(node["Alive"] for node in ray.nodes())
            options = replace(options, sharing=-(-len(shares) // nodes))
            actors = [
                ray.remote(_Actor).options(max_restarts=_RESTARTS, max_task_retries=_RESTARTS, **share).remote()
                for share in shares
            ]
            path = str(plan.path.absolute())
            plugins = [Path(plugin).absolute() for plugin in options.plugins]
            pending = [actor.work.remote(path, replace(options, plugins=plugins)) for actor in actors]
            _wait(ray, plan, pending, progress=options.progress)
        finally:
            if started:
                ray.shutdown()
        return status_of(plan)


class _Actor:
    """A worker on a node."""

    def work(self, path: str, options: WorkerOptions) -> int:
        """Do units until none is left, and return the exit status."""
        from otoscope.threads import set_threads

        if options.threads:
            set_threads(options.threads)
        return options.work(Path(path))


def _shares(resources: dict[str, float], options: WorkerOptions) -> Sequence[dict[str, Any]]:
    """The resources of each actor: a card and its share of the cores, or `threads` cores.

    >>> _shares({"CPU": 8.0}, WorkerOptions(threads=4))
    [{'num_cpus': 4}, {'num_cpus': 4}]
    >>> _shares({"CPU": 8.0, "GPU": 2.0}, WorkerOptions(device="cuda"))
    [{'num_cpus': 4, 'num_gpus': 1}, {'num_cpus': 4, 'num_gpus': 1}]
    """
    cores, cards = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
    if options.device and options.device.startswith("cuda"):
        if not cards:
            raise ValueError("the cluster of Ray has no cards; leave --device out, or start nodes with cards")
        return [{"num_cpus": max(1, cores // cards), "num_gpus": 1}] * cards
    each = options.threads or 1
    return [{"num_cpus": each}] * max(1, cores // each)


def _wait(ray: Any, plan: PlanFolder, pending: list[Any], *, progress: bool) -> None:
    """Wait until the plan is done or the actors have ended, with a progress bar; actors that died are reported.

    Results of actors may never arrive where the node of this process was lost; this raises `ConnectionError`, unless
    the plan is done.
    """
    from tqdm import tqdm

    own_node = ray.get_runtime_context().get_node_id()
    with tqdm(total=len(plan.units), desc="units", unit="unit", smoothing=0, disable=not progress) as bar:
        while pending:
            ended, pending = ray.wait(pending, timeout=LOOK_SECONDS)
            status = Status.of(plan)
            bar.update(len(status.done) - bar.n)
            if status.complete:
                return
            if not any(node["Alive"] for node in ray.nodes() if node["NodeID"] == own_node):
                raise ConnectionError(
                    f"the node of this process was lost, and its actors with it, after {len(status.done)} of "
                    f"{len(plan.units)} units; launch {plan.path} again on a node of the cluster that is left"
                )
            for result in ended:
                try:
                    ray.get(result)
                except ray.exceptions.RayActorError as error:
                    bar.write(f"an actor died: {str(error).splitlines()[0]}")


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError(
            '--on ray needs Ray, which is not installed: pip install "otoscope[ray]", or use --on local:N'
        ) from error
    return ray
