"""Training of several probes in one pass over audio that is encoded on the fly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from otoscope.bank import Bank, take_turns
from otoscope.train.config import TrainingConfig
from otoscope.train.errors import DivergedError
from otoscope.train.fit import fit
from otoscope.train.fitted import FittedProbe
from otoscope.train.progress import announce_passes


def fit_together(
    probes: Sequence[str],
    bank: Bank,
    config: TrainingConfig = TrainingConfig(),
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    progress: bool = False,
) -> dict[str, FittedProbe | DivergedError]:
    """Train several probes together, so that every batch of clips is encoded once for all of them.

    Each result is that of `fit`. The probes take turns: all of them take the step of a batch, then the next batch is
    encoded, with the layers that at least one of them reads. Each has its own random numbers. The weights and one batch
    of every probe are in memory at once. A bank in a folder is read by each probe by itself.

    Parameters
    ----------
    probes : registered names of the probes, each once.
    bank : the result of `otoscope.bank.encode_on_the_fly`, or another bank.
    config : how to train.
    options : options of the probes, by the name of the probe.
    progress : whether to say on stderr how long the epochs will take.

    Returns
    -------
    The fitted probe of each name, or the error of a training that diverged.

    Raises
    ------
    ValueError : for a name that occurs twice, and for options of another probe.
    Exception : the first other error of a training, as from `fit`; the other probes have then been trained in vain.

    Examples
    --------
    >>> from otoscope import bank, datasets, encoders
    >>> scenes = datasets.create("scenes", train=4)
    >>> tokens = bank.encode_on_the_fly(encoders.create("tiny"), scenes, splits=["train"], progress=False)
    >>> list(fit_together(["linear", "mean"], tokens))
    ['linear', 'mean']
    """
    options = options or {}
    if len(set(probes)) < len(probes) or not set(options) <= set(probes):
        raise ValueError(
            f"fit_together needs every probe once, and options of these probes only; found probes {list(probes)} and "
            f"options of {list(options)}"
        )
    if progress:
        announce_passes(bank, config.count_epochs(len(bank.split("train"))))
    results = take_turns([partial(fit, name, bank, config, options=options.get(name)) for name in probes])
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, DivergedError):
            raise result
    return dict(zip(probes, results, strict=True))
