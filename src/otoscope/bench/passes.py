"""How often the clips of a pair are encoded when their tokens are not stored. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from otoscope.bench.cost import PairSize
from otoscope.bench.specs import FinetuneSpec
from otoscope.bench.suites import Suite

if TYPE_CHECKING:
    from otoscope.bench.plan import Run, Study

FURTHER_PASSES = 3
"""Passes of a training beside its epochs: statistics of tokens, the last linear layer, and the held-out split."""


def of_pair(suite: Suite, size: PairSize, studies: Sequence[tuple[Study, Sequence[Run]]]) -> int:
    """Estimate the number of passes over the clips of a pair, whose probes are trained together.

    Parameters
    ----------
    suite : the suite.
    size : size of the pair.
    studies : the studies of the pair, with the runs to execute. Those of fine-tuning do not count.
    """
    trainings: dict[tuple[int | None, int], list[int]] = {}
    for study, runs in studies:
        if not isinstance(suite.probe(study.probe), FinetuneSpec):
            searched = any(run.trial is not None for run in runs)
            finals = sum(run.trial is None and not (searched and run.seed == 0) for run in runs)
            trainings.setdefault((study.shots, study.draw), []).append(searched + finals)
    return sum(
        count_passes(of_draw, suite.count_epochs(size.train_clips(shots)), kept=size.kept)
        for (shots, _), of_draw in trainings.items()
    )


def count_passes(trainings: Sequence[int], epochs: int, *, kept: bool) -> int:
    """Estimate the number of passes of probes that are trained together.

    Parameters
    ----------
    trainings : number of trainings that follow each other, for each probe; the trials of a search count as one.
    epochs : epochs of a training.
    kept : whether the tokens are kept in memory after the first pass.

    Examples
    --------
    >>> count_passes([1, 3], 30, kept=False), count_passes([1, 3], 30, kept=True)
    (99, 1)
    """
    return 1 if kept else max(trainings) * (epochs + FURTHER_PASSES)
