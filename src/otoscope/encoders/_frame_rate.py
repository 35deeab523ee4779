"""The frame rate of a model that does not declare it, and whether the tokens of a clip fit a frame rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence


def frames_per_step(frames: Sequence[int], steps: Sequence[int], count: Callable[[int], int]) -> float:
    """Compute how many frames of the features a time step has.

    The numbers of steps of two clips give it, unless it is then no whole number: a clip may end within a step. It is
    then the distance between the lengths at which two steps begin, which is exact.

    Parameters
    ----------
    frames, steps : numbers of frames and of time steps of two clips, the shorter one first.
    count : maps a number of frames to a number of time steps; it is called about twenty times, if at all.

    Examples
    --------
    >>> frames_per_step((64000, 128000), (166, 333), lambda frames: frames // 384)
    384.0
    """
    rough = (frames[1] - frames[0]) / (steps[1] - steps[0])
    if rough == round(rough):
        return rough
    first, last = (_beginning(count, length, n, math.ceil(2 * rough)) for length, n in zip(frames, steps, strict=True))
    return (last - first) / (steps[1] - steps[0])


def _beginning(count: Callable[[int], int], frames: int, steps: int, margin: int) -> int:
    """The smallest number of frames, at most a margin below a given one, that has its number of time steps."""
    low, high = frames - margin, frames
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if count(middle) == steps else (middle, high)
    return high


def check_covered(encoder: str, steps: int, expected: float, frame_rate: float) -> None:
    """Check that the tokens of a clip cover it; a model that crops long clips would lose their ends.

    Parameters
    ----------
    encoder : name of the encoder, for messages.
    steps : number of time steps of the clip.
    expected : the number that its duration and the frame rate give.
    frame_rate : time steps per second.

    Raises
    ------
    ValueError : when steps are missing, except two, and 2 % for a frame rate that is rounded.

    Examples
    --------
    >>> check_covered("xares", 499, 500, 50)
    """
    if steps < 0.98 * expected - 2:
        raise ValueError(
            f"encoder {encoder!r}: the model gives {steps} tokens for {expected / frame_rate:g} s of audio, where "
            f"{frame_rate:g} per second are expected, so that it drops a part of the clip; give it shorter ones with "
            f"the option window (at most {steps / frame_rate:g} s)"
        )
