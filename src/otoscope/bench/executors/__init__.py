"""Executors: where the workers of a plan run. All of them start `otoscope.bench.units.Worker` and nothing else."""

from otoscope.bench.executors.base import Executor, WorkerOptions, create

__all__ = ["Executor", "WorkerOptions", "create"]
