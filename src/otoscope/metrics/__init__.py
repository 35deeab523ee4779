"""Metrics of predictions for clips and time steps, found by name, and the statistics of their differences.

`evaluate` computes every metric; `main_scores` computes the one by which probes of a task are selected and compared.
`evaluate_frames` computes the metrics of time steps from the events of clips (`otoscope.metrics.frames`).
`otoscope.metrics.clip` states the conventions, `otoscope.metrics.stats` estimates intervals and differences.
"""

from otoscope.metrics.clip import Kind, validate
from otoscope.metrics.frames import evaluate_frames, frame_targets
from otoscope.metrics.registry import (
    ClassMetric,
    Metric,
    create,
    evaluate,
    main_metric,
    main_score,
    main_scores,
    names,
    register,
    registry,
)

__all__ = [
    "ClassMetric",
    "Kind",
    "Metric",
    "create",
    "evaluate",
    "evaluate_frames",
    "frame_targets",
    "main_metric",
    "main_score",
    "main_scores",
    "names",
    "register",
    "registry",
    "validate",
]
