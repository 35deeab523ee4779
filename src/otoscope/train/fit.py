"""Training of one probe on a bank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otoscope.bank import Bank
from otoscope.train.batched import fit_many
from otoscope.train.config import TrainingConfig
from otoscope.train.fitted import FittedProbe


def fit(
    probe: str,
    bank: Bank,
    config: TrainingConfig = TrainingConfig(),
    *,
    options: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> FittedProbe:
    """Train a probe on the train split of a bank. The validation split selects the best epoch.

    The optimiser is AdamW with a learning rate that falls to 0 along a cosine; parameters that the probe lists in
    `no_decay` take no weight decay. The loss is the asymmetric loss (multi-label) or cross-entropy (multi-class), plus
    the probe's own penalty. At the end, the last linear layer is solved exactly and kept where it is better on the
    validation split (`TrainingConfig.resolve_head`). A probe without gradient training reads the train split once. The
    same arguments give the same probe on the same machine. The held-out split is not opened.

    The frame probe `linear-frame` is solved on the valid time steps of the train clips. Their targets come from the
    events of the clips (`otoscope.metrics.frames`), and the score is the mAP over the time steps of the validation
    clips.

    Parameters
    ----------
    probe : registered name of the probe.
    bank : tokens of a data set, with the splits "train" and "validation". A probe that is solved exactly needs no
        validation split: its penalty is then chosen by cross-validation on the train split.
    config : how to train.
    options : options of the probe.
    progress : whether to show a progress bar on stderr.

    Returns
    -------
    FittedProbe. The probe of the best epoch, or of the first of equally good epochs.

    Raises
    ------
    UnknownNameError : for an unknown probe.
    TypeError : for an unknown option, or a frame probe that is trained by gradient.
    ValueError : for a layer that the bank does not hold, for a train or validation split without a positive label, for
        a clip probe if every clip has exactly one label and all train clips the same one, for a frame probe on a bank
        without events, for a bank without a validation split if the probe needs one, or for a device that this machine
        does not have.
    DivergedError : if the loss or a validation score becomes nan or infinite, or if the exact solver has no finite
        solution.
    """
    (result,) = fit_many(probe, bank, [config], options=options, progress=progress)
    if isinstance(result, Exception):
        raise result
    return result
