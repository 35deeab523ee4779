"""Long clips of models without a window of their own: they are cut into windows, which limits the memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from otoscope.encoders._lengths import Maps

LONGEST = 60.0
"""Duration in seconds of the longest clip that is computed as a whole, and of the windows of longer ones."""


def window_text(window: float | None) -> str:
    """Say in an identity how long clips are cut.

    >>> window_text(60.0), window_text(None)
    ('upto60s', 'whole')
    """
    return "whole" if window is None else f"upto{window:g}s"


@dataclass(frozen=True)
class Cut:
    """How long clips are cut.

    Parameters
    ----------
    frames : length of a window in frames of the features.
    per_step : frames per time step of the tokens.
    unit : time steps of which the beginning of every window is a multiple.
    """

    frames: int
    per_step: float
    unit: int = 1

    @classmethod
    def of(cls, seconds: float, frame_rate: float, per_step: float, unit: int = 1) -> Cut:
        """Cut into windows of some seconds, but whole units.

        Parameters
        ----------
        seconds : length of a window in seconds.
        frame_rate : time steps per second.
        per_step, unit : as in the class.

        Raises
        ------
        ValueError : when a window has less than one unit.

        Examples
        --------
        >>> Cut.of(60, 50, 320)
        Cut(frames=960000, per_step=320, unit=1)
        """
        steps = seconds * frame_rate
        if not (math.isfinite(steps) and steps + 1e-6 >= unit):
            raise ValueError(f"window={seconds:g} s; it must be a finite number, at least {unit / frame_rate:g} s")
        return cls(round((steps if unit == 1 else (steps + 1e-6) // unit * unit) * per_step), per_step, unit)


def in_windows(x: Tensor, cut: Cut, compute: Callable[[Tensor], Maps]) -> Maps:
    """Compute the token maps of clips of one length, window by window where the clips are longer than a window.

    Every window begins where the tokens of the one before end, except the last one, which ends with the clip and has
    about the length of the others; its first tokens, which the window before has too, are dropped. The time axis is
    that of a clip that is computed as a whole.

    Parameters
    ----------
    x : float [B, frames, bins]. Features of clips of one length.
    cut : how long clips are cut.
    compute : maps features of clips of one length to their token maps.

    Returns
    -------
    x : float [B, L, T, F, D].
    cls : float [B, L, D], the mean of the cls tokens of the windows, or None.

    Examples
    --------
    >>> def pairs(x):
    ...     return x.unfold(1, 2, 2).mean(-1)[:, None, :, None], None
    >>> in_windows(torch.arange(14.0).view(1, 14, 1), Cut(frames=6, per_step=2), pairs)[0].flatten().tolist()
    [0.5, 2.5, 4.5, 6.5, 8.5, 10.5, 12.5]
    """
    total = x.shape[1]
    if total <= cut.frames:
        return compute(x)
    maps, cls = compute(x[:, : cut.frames])
    whole = min(maps.shape[2], int(cut.frames / cut.per_step + 1e-6)) // cut.unit * cut.unit
    if not whole:
        raise ValueError(f"a window of {cut.frames} frames has {maps.shape[2]} time steps; give longer windows")
    parts, tokens_of_clips, steps, reached = [maps[:, :, :whole]], [cls], whole, False
    while not reached:
        reached = total - round(steps * cut.per_step) <= cut.frames
        first = min(steps, _next_unit((total - cut.frames) / cut.per_step, cut.unit)) if reached else steps
        start = round(first * cut.per_step)
        maps, cls = compute(x[:, start : start + cut.frames])
        parts.append(maps[:, :, steps - first :] if reached else maps[:, :, :whole])
        tokens_of_clips.append(cls)
        steps += whole
    present = [cls for cls in tokens_of_clips if cls is not None]
    return torch.cat(parts, 2), torch.stack(present).mean(0) if present else None


def _next_unit(steps: float, unit: int) -> int:
    """The first multiple of a unit that is at least a number of time steps."""
    return math.ceil(steps / unit - 1e-9) * unit
