"""Comparisons: suites, their plans and runs, measured on the held-out split. Only `evaluation` opens that split."""

from otoscope.bench.evaluation import evaluate, evaluate_finetuned

__all__ = ["evaluate", "evaluate_finetuned"]
