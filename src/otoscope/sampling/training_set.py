"""The clips of a data set that a training uses, for training that reads audio, and for banks of mixup views."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from otoscope.bank import HeldOutError
from otoscope.datasets import Dataset
from otoscope.results import Sampling
from otoscope.sampling.few_shot import few_shot
from otoscope.sampling.mixup import SNR_DB, P, add_mixup_views, mixup_settings
from otoscope.sampling.subset import VALIDATION_CUT, split_validation
from otoscope.types import Clip


class TrainingSet(Dataset):
    """The train and validation clips of a data set; its other splits cannot be read.

    The clips are those that `with_validation` and `with_few_shot` choose from a bank of the data set. Name, task and
    identity are those of the data set.

    Parameters
    ----------
    dataset : the data set.
    cut : True to cut the validation split from the train split, for a data set that has none.
    shots : train clips per class of a few-shot draw from the train clips that remain; None for all clips.
    draw : number of the few-shot draw.
    views : mixup views of each train clip, which are added to the train clips.
    """

    def __init__(
        self, dataset: Dataset, *, cut: bool = False, shots: int | None = None, draw: int = 0, views: int = 0
    ) -> None:
        self.name, self.task = dataset.name, dataset.task  # type: ignore[misc]
        self._identity, self.chosen_fold = dataset.identity_digest, dataset.chosen_fold
        self.draw = draw
        self.sampling = Sampling(
            shots=shots,
            draw=draw,
            views=mixup_settings(views) if views else None,
            validation_cut=VALIDATION_CUT if cut else None,
        )
        train = dataset.clips("train")
        if cut:
            groups = [clip.groups for clip in train]
            kept, validation_rows = split_validation(self.task.targets(train).numpy(), groups)
            train, validation = [train[row] for row in kept], [train[row] for row in validation_rows]
        else:
            validation = list(dataset.clips("validation"))
        if shots is not None:
            train = [train[row] for row in few_shot(self.task.targets(train).numpy(), shots, seed=draw).tolist()]
        self._clips = {"train": add_mixup_views(train, self.task, views=views, draw=draw), "validation": validation}

    @property
    def digest(self) -> str:
        """The identity of the data set."""
        return self._identity

    @property
    def identity_digest(self) -> str:
        """The identity of the data set."""
        return self._identity

    def clips(self, split: str) -> Sequence[Clip]:
        """Return the clips of a split.

        Parameters
        ----------
        split : "train" or "validation".

        Raises
        ------
        HeldOutError : for any other split.
        """
        if split not in self._clips:
            raise HeldOutError(
                f"split {split!r} of {self.name!r} is held out from training; allowed: {', '.join(self._clips)}; "
                "otoscope.bench.evaluate_finetuned measures on it"
            )
        return self._clips[split]


class MixupSet(Dataset):
    """The train clips of a `TrainingSet` and their mixup views, as a data set from which a bank is extracted.

    Parameters
    ----------
    training_set : the clips and views.
    """

    splits = ("train",)

    def __init__(self, training_set: TrainingSet) -> None:
        self.name, self.task = training_set.name, training_set.task  # type: ignore[misc]
        self._training_set = training_set

    @property
    def digest(self) -> str:
        """sha256 over the identity of the data set, the ids of clips and views, the draw and the rule of mixing."""
        ids = [clip.id for clip in self._training_set.clips("train")]
        identity = [self._training_set.identity_digest, ids, self._training_set.draw, {"p": P, "snr_db": SNR_DB}]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def clips(self, split: str) -> Sequence[Clip]:
        """Return the clips and their views.

        Parameters
        ----------
        split : "train".

        Raises
        ------
        HeldOutError : for any other split.
        """
        if split != "train":
            raise HeldOutError(f"split {split!r} of {self.name!r} has no views: only its train split is mixed")
        return self._training_set.clips(split)
