"""Jobs of worker processes: the search of one study, then its final runs."""

from otoscope.bench.jobs.base import Failure, Job
from otoscope.bench.jobs.finetune import FinetuneJob
from otoscope.bench.jobs.probe import ProbeJob, saved_probe

__all__ = ["Failure", "FinetuneJob", "Job", "ProbeJob", "saved_probe"]
