"""Benches: cells to do, measured on the held-out split. `run` is the only module that opens it."""

from otoscope.bench.evaluation import evaluate, evaluate_finetuned

__all__ = ["evaluate", "evaluate_finetuned"]
