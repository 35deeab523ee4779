"""The task that a probe is fitted to."""

from __future__ import annotations

from otoscope.probes import FrameProbe, Probe
from otoscope.types import Task


def task_for(module: Probe, task: Task) -> Task:
    """Return the task that a probe is fitted to and scored by.

    Parameters
    ----------
    module : the probe.
    task : the task of the data set.

    Returns
    -------
    Task. For a clip probe, the task of the data set. For a frame probe, one with the same classes, any number of which
    may be active in a time step, and the metric mAP.
    """
    return Task(task.classes, "multi-label", "mAP") if isinstance(module, FrameProbe) else task
