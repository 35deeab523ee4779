"""A data set as training sees it: the clips that a view of its bank would hold, for training that reads clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from otoscope.bank import HeldOutError
from otoscope.datasets import Dataset
from otoscope.train.draws import few_shots, stratify
from otoscope.train.views import CUT
from otoscope.types import Clip


class Shown(Dataset):
    """The train and validation clips of a data set; whatever else is asked for is held out.

    `cut`: the validation split is cut from the train split, as `views.with_validation` does; `shots`, `draw`: the train
    split is a few-shot draw from what is left, as of `views.with_few_shots`. Name, task and digest are the whole's.
    """

    def __init__(self, whole: Dataset, *, cut: bool = False, shots: int | None = None, draw: int = 0) -> None:
        self.name, self.task, self._digest = whole.name, whole.task, whole.digest  # type: ignore[misc]
        train = whole.clips("train")
        held = None if cut else whole.clips("validation")
        if held is None:
            hot = whole.task.targets(train).numpy()
            part = stratify(hot, [1 - CUT["share"], CUT["share"]], seed=int(CUT["seed"]))
            train, held = ([train[row] for row in np.flatnonzero(part == side).tolist()] for side in (0, 1))
        if shots is not None:
            train = [train[row] for row in few_shots(whole.task.targets(train).numpy(), shots, seed=draw).tolist()]
        self._clips = {"train": train, "validation": held}

    @property
    def digest(self) -> str:
        """The whole data set's."""
        return self._digest

    def clips(self, split: str) -> Sequence[Clip]:
        """The clips of the train or validation split; `HeldOutError` for another."""
        if split not in self._clips:
            raise HeldOutError(
                f"split {split!r} of {self.name!r} is held out from training; allowed: {', '.join(self._clips)}; "
                "otoscope.bench.evaluate_finetuned measures on it"
            )
        return self._clips[split]
