"""A report on the audio of clips while they are decoded: how many are silent, clipped, offset, of a wrong scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from otoscope.audio import Wave
from otoscope.audio.decode import DecodedFile
from otoscope.audio.faults import FAULTS, find_faults
from otoscope.datasets.checks import name_clips
from otoscope.types import Clip


class AudioReport:
    """Counts the clips with each fault of `otoscope.audio.faults`.

    Attributes
    ----------
    count : int. Number of clips that were decoded.
    faulty : dict. The clips with each fault, by the name of the fault.

    Examples
    --------
    >>> import numpy as np
    >>> report = AudioReport()
    >>> report.add(Clip("a", lambda: None, 1, (), (), "train"), np.zeros(4, np.float32), [])
    >>> print(report)
    audio of 1 clips: 1 clip ('a') silent (no sample exceeds 0.0001 of full scale)
    """

    def __init__(self) -> None:
        self.count = 0
        self.faulty: dict[str, list[Clip]] = {}

    def add(self, clip: Clip, wave: Wave, files: Sequence[DecodedFile]) -> None:
        """Count a clip.

        Parameters
        ----------
        clip : the clip.
        wave : float32 [S]. Its samples.
        files : the files from which they were decoded.
        """
        antiphase, changed = any(file.cancelled for file in files), any(file.changed for file in files)
        self.add_faults(clip, find_faults(wave, antiphase=antiphase, changed=changed))

    def add_faults(self, clip: Clip, faults: Sequence[str]) -> None:
        """Count a clip whose faults are known.

        Parameters
        ----------
        clip : the clip.
        faults : names of its faults.
        """
        self.count += 1
        for fault in faults:
            self.faulty.setdefault(fault, []).append(clip)

    def __str__(self) -> str:
        faults = [f"{name_clips(self.faulty[f])} {f} ({FAULTS[f]})" for f in FAULTS if f in self.faulty]
        return f"audio of {self.count:,} clips: {'; '.join(faults) or 'no faults'}"


_active: ContextVar[AudioReport | None] = ContextVar("_active", default=None)


@contextmanager
def reporting_audio() -> Iterator[AudioReport]:
    """Collect a report on all clips that `otoscope.datasets.waveform.waveform` decodes inside a `with` block.

    Yields
    ------
    AudioReport. It is complete at the end of the block.
    """
    report = AudioReport()
    token = _active.set(report)
    try:
        yield report
    finally:
        _active.reset(token)


def report_audio(clip: Clip, wave: Wave, files: Sequence[DecodedFile]) -> None:
    """Add a clip to the report of the surrounding `reporting_audio`, if there is one; the arguments are as in `add`."""
    report = _active.get()
    if report is not None:
        report.add(clip, wave, files)


def report_faults(clip: Clip, faults: Sequence[str]) -> None:
    """Add a clip that another process has decoded to the report, as `report_audio` does."""
    report = _active.get()
    if report is not None:
        report.add_faults(clip, faults)
