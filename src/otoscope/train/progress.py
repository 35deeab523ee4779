"""Progress of a training on stderr."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

from otoscope.bank import Bank
from otoscope.train.loop import Callback, TrainingState

TIMED_BATCHES = 4
"""Number of batches that are timed to estimate the time of an epoch. The first batch is not timed."""


class TrainingBar(Callback):
    """One progress bar over all epochs.

    Parameters
    ----------
    name : text before the bar.
    epochs : number of epochs.
    show : False for no bar.
    """

    def __init__(self, name: str, epochs: int, *, show: bool) -> None:
        self._bar = tqdm(total=epochs, desc=name, disable=not show, leave=False)

    def on_epoch_end(self, state: TrainingState) -> None:  # noqa: ARG002
        """Advance the bar."""
        self._bar.update()

    def on_train_end(self, state: TrainingState) -> None:  # noqa: ARG002
        """Remove the bar."""
        self._bar.close()


class EpochBars(Callback):
    """One progress bar over the batches of each epoch, and one line with the size of the training.

    The line is written once the time of an epoch can be estimated. Validation is not part of this time.

    Parameters
    ----------
    name : name of the training, such as "fine-tuning".
    trained : number of parameters that are trained.
    parameters : number of all parameters.
    epochs : number of remaining epochs.
    last_epoch : number of the last epoch, counted from 1.
    show : False to write nothing.
    """

    def __init__(self, name: str, *, trained: int, parameters: int, epochs: int, last_epoch: int, show: bool) -> None:
        self.name, self.trained, self.parameters, self.epochs = name, trained, parameters, epochs
        self.last_epoch, self.show = last_epoch, show
        self._written = not show
        self._bar: Any = None

    def on_epoch_start(self, state: TrainingState, steps: int) -> None:
        """Open the bar of this epoch."""
        desc = f"{self.name}, epoch {state.epoch + 1} of {self.last_epoch}"
        self._bar = tqdm(total=steps, desc=desc, unit="batch", disable=not self.show, leave=False)
        self._steps, self._done, self._start = steps, 0, time.perf_counter()

    def on_batch_end(self, state: TrainingState) -> None:  # noqa: ARG002
        """Advance the bar, and write the line as soon as the time of an epoch is known."""
        self._bar.update()
        self._done += 1
        if not self._written and self._done == min(TIMED_BATCHES + 1, self._steps):
            self._written = True
            timed = max(self._done - 1, 1)
            seconds = (time.perf_counter() - self._start) / timed * self._steps
            tqdm.write(self.summary(seconds), file=sys.stderr)
        elif self._done == 1:
            self._start = time.perf_counter()

    def on_epoch_end(self, state: TrainingState) -> None:  # noqa: ARG002
        """Remove the bar of this epoch."""
        self._bar.close()

    def on_train_end(self, state: TrainingState) -> None:  # noqa: ARG002
        """Remove a bar that an exception left open."""
        if self._bar is not None:
            self._bar.close()

    def summary(self, seconds: float) -> str:
        """The line with the size of the training.

        Parameters
        ----------
        seconds : estimated time of an epoch.

        Examples
        --------
        >>> bars = EpochBars("fine-tuning", trained=2500, parameters=10000, epochs=30, last_epoch=30, show=False)
        >>> bars.summary(61.2)
        'fine-tuning: 2,500 of 10,000 parameters trained (25.0 %), about 61 s per epoch, 31 min for 30 epochs'
        """
        percent = 100 * self.trained / self.parameters
        plural = "s" if self.epochs > 1 else ""
        return (
            f"{self.name}: {self.trained:,} of {self.parameters:,} parameters trained ({percent:.1f} %), about "
            f"{_duration(seconds)} per epoch, {_duration(seconds * self.epochs)} for {self.epochs} epoch{plural}"
        )


def announce_passes(bank: Bank, epochs: int) -> None:
    """Write one line with the time that encoding on the fly will take; nothing where tokens are stored or kept.

    Parameters
    ----------
    bank : the bank of the training, with the splits "train" and "validation".
    epochs : number of epochs.
    """
    splits = [bank.split(name) for name in ("train", "validation")]
    audio = sum(split.audio_seconds for split in splits)
    if audio:
        line = describe_passes(epochs, audio, sum(split.pass_seconds for split in splits))
        print(line, file=sys.stderr, flush=True)


def describe_passes(epochs: int, audio_seconds: float, pass_seconds: float) -> str:
    """The line of `announce_passes`.

    Parameters
    ----------
    epochs : number of epochs.
    audio_seconds : seconds of audio that each epoch encodes.
    pass_seconds : estimated seconds that this takes.

    Examples
    --------
    >>> describe_passes(30, 12000, 150)
    'encoding on the fly: 30 epochs x 3.33 h of audio, 80 s of audio per second: about 75 min, and 2 to 4 more passes'
    """
    return (
        f"encoding on the fly: {epochs} epochs x {audio_seconds / 3600:.3g} h of audio, "
        f"{audio_seconds / pass_seconds:.3g} s of audio per second: about {_duration(epochs * pass_seconds)}, "
        "and 2 to 4 more passes"
    )


def _duration(seconds: float) -> str:
    """
    >>> _duration(0.21), _duration(61.2), _duration(600), _duration(36000)
    ('0.2 s', '61 s', '10 min', '10.0 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
