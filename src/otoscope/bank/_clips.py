"""The clips of a bank, with the checks that come before an extraction."""

from __future__ import annotations

from collections.abc import Sequence

from otoscope.bank.identity import whole_dataset
from otoscope.datasets import Dataset
from otoscope.datasets.checks import checked_clips
from otoscope.datasets.doubts import warn_of_doubts
from otoscope.types import Clip


def clips_to_encode(dataset: Dataset, splits: Sequence[str] | None, *, allow_shared: bool) -> dict[str, Sequence[Clip]]:
    """Check the labels and splits of a data set, and list the clips that its bank contains.

    Parameters
    ----------
    dataset : the data set. Of a single fold, its own splits are checked, and the clips are those of all folds.
    splits : names of the splits; None for all.
    allow_shared : whether the held-out split may have ids and audio files of other splits.

    Returns
    -------
    The clips by split.

    Raises
    ------
    DataError : when the data set cannot be measured.
    ValueError : when splits of a single fold are requested.
    """
    whole = whole_dataset(dataset)
    if whole is not dataset:
        if splits is not None and tuple(splits) != whole.splits:
            raise ValueError(
                f"splits {list(splits)} of one fold were requested, but a bank contains the clips of all folds of "
                f"{dataset.name!r}; leave splits out"
            )
        warn_of_doubts(dataset, checked_clips(dataset, allow_shared=allow_shared))
        return checked_clips(whole, allow_shared=True)  # no split of all folds is held out
    known = dataset.splits if splits is None else [split for split in splits if split in dataset.splits]
    clips = checked_clips(dataset, known, allow_shared=allow_shared)
    warn_of_doubts(dataset, clips)
    return clips
