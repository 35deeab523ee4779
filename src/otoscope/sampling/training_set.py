"""A data set as training sees it: the clips that a view of its bank would hold, for training that reads clips."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from otoscope.bank import HeldOutError
from otoscope.datasets import Dataset
from otoscope.results import Sampling
from otoscope.sampling.draws import few_shot, stratify
from otoscope.sampling.mixup import RULE, mixed, view_settings
from otoscope.sampling.subset import VALIDATION_CUT, cut_settings
from otoscope.types import Clip


class TrainingSet(Dataset):
    """The train and validation clips of a data set; whatever else is asked for is held out.

    `cut`: the validation split is cut from the train split, as `views.with_validation` does; `shots`, `draw`: the
    train split is a few-shot draw from what is left, as of `views.with_few_shot`; `views` mixed ones stand beside
    each of its clips (`mixed.mixed`). Name, task and digest are the whole's.
    """

    def __init__(
        self, whole: Dataset, *, cut: bool = False, shots: int | None = None, draw: int = 0, views: int = 0
    ) -> None:
        self.name, self.task, self._digest = whole.name, whole.task, whole.digest  # type: ignore[misc]
        self.draw = draw
        self.sampling = Sampling(
            shots=shots,
            draw=draw,
            views=view_settings(views) if views else None,
            validation_cut=cut_settings() if cut else None,
        )
        train = whole.clips("train")
        held = None if cut else whole.clips("validation")
        if held is None:
            hot = whole.task.targets(train).numpy()
            part = stratify(
                hot, [1 - VALIDATION_CUT["share"], VALIDATION_CUT["share"]], seed=int(VALIDATION_CUT["seed"])
            )
            train, held = ([train[row] for row in np.flatnonzero(part == side).tolist()] for side in (0, 1))
        if shots is not None:
            train = [train[row] for row in few_shot(whole.task.targets(train).numpy(), shots, seed=draw).tolist()]
        self._clips = {"train": mixed(train, whole.task, views=views, draw=draw), "validation": held}

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


class MixupSet(Dataset):
    """The train clips of `shown`, drawn and mixed, as a data set of its own: the bank of a draw is made of it."""

    splits = ("train",)

    def __init__(self, shown: TrainingSet) -> None:
        self.name, self.task, self._shown = shown.name, shown.task, shown  # type: ignore[misc]

    @property
    def digest(self) -> str:
        """sha256 over the whole data set, the clips that were drawn, their views and how these are mixed."""
        names = [clip.id for clip in self._shown.clips("train")]
        decides = json.dumps([self._shown.digest, names, self._shown.draw, RULE])
        return hashlib.sha256(decides.encode()).hexdigest()

    def clips(self, split: str) -> Sequence[Clip]:
        """The clips and their views; `HeldOutError` for another split than "train"."""
        if split != "train":
            raise HeldOutError(f"split {split!r} of {self.name!r} has no views: only its train split is mixed")
        return self._shown.clips(split)
