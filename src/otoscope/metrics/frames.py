"""Targets and metrics of time steps ("frames"), from the events of clips.

Time step t of a clip covers the seconds t / frame_rate to (t + 1) / frame_rate. A class is active in a step if any of
its events overlaps the step, however little: the onset is rounded down to a step and the offset up. This is the
convention of the segment-based metrics of DCASE (Mesaros, Heittola and Virtanen, "Metrics for Polyphonic Sound Event
Detection", Applied Sciences 6(6), 2016; `event_list_to_event_roll` of sed_eval) and of the frame targets of the DCASE
baseline (`ManyHotEncoder.encode_strong_df` of DESED_task). Scores are comparable only at the same frame rate.

Each class is a binary task over all time steps of all clips, whatever the kind of the clip's task, because several
classes or none may be active in a step. Padded steps do not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from otoscope.metrics.registry import evaluate

if TYPE_CHECKING:
    from otoscope.types import Event

_DECIMALS = 6
"""Onsets and offsets are rounded to this number of decimals of a step, because 0.3 * 10 is a little more than 3."""


def frame_targets(
    events: Sequence[Sequence[Event]], classes: Sequence[str], frame_rate: float, steps: int
) -> npt.NDArray[np.bool_]:
    """Return which classes are active in which time step.

    Parameters
    ----------
    events : the events of each of n clips. What lies behind the last step is ignored.
    classes : the C classes.
    frame_rate : time steps per second.
    steps : number of time steps, T.

    Returns
    -------
    bool [n, T, C].

    Raises
    ------
    ValueError : when the label of an event is not one of `classes`, or the frame rate is not above 0.

    Examples
    --------
    >>> from otoscope.types import Event
    >>> frame_targets([[Event(0.15, 0.3, "dog")]], ["dog"], 10, 5)[0, :, 0].astype(int).tolist()
    [0, 1, 1, 0, 0]
    """
    if not frame_rate > 0:
        raise ValueError(f"the frame rate must be above 0 time steps per second, found {frame_rate}")
    column = {name: i for i, name in enumerate(classes)}
    active = np.zeros((len(events), steps, len(column)), np.bool_)
    for clip, of_clip in enumerate(events):
        for event in of_clip:
            if event.label not in column:
                raise ValueError(
                    f"clip {clip} has an event {event.label!r}, which is not one of the {len(column)} classes; "
                    "leave the event out, or add its class"
                )
            first = math.floor(round(event.onset * frame_rate, _DECIMALS))
            end = math.ceil(round(event.offset * frame_rate, _DECIMALS))
            active[clip, first : max(end, first + 1), column[event.label]] = True
    return active


def evaluate_frames(
    logits: npt.ArrayLike,
    mask: npt.ArrayLike,
    events: Sequence[Sequence[Event]],
    classes: Sequence[str],
    frame_rate: float,
) -> dict[str, float]:
    """Compute every multi-label metric over the valid time steps of all clips.

    Parameters
    ----------
    logits : float [n, T, C]. Logits of each time step, as `FittedProbe.predict_logits` of a frame probe returns them.
    mask : bool [n, T]. True where there is audio (`Tokens.mask`). Logits of other steps are ignored.
    events, classes, frame_rate : as for `frame_targets`.

    Returns
    -------
    Fractions by the name of the metric, as `evaluate` returns them; "mAP" is the mean over classes of the average
    precision over time steps.

    Raises
    ------
    ValueError : when shapes do not match, for an unknown label, or when no class is active in any valid step.

    Examples
    --------
    >>> from otoscope.types import Event
    >>> logits = [[[-2.0], [1.0], [9.0]]]
    >>> evaluate_frames(logits, [[True, True, False]], [[Event(0.1, 0.2, "dog")]], ["dog"], 10)["mAP"]
    1.0
    """
    scores, valid = np.asarray(logits), np.asarray(mask)
    expected = (len(events), *scores.shape[1:2], len(classes))
    if scores.shape != expected or valid.shape != expected[:2] or valid.dtype != np.bool_:
        raise ValueError(
            f"frame scores need logits [n, T, C] and a mask bool [n, T] for the events of {len(events)} clips and "
            f"{len(classes)} classes, found {list(scores.shape)} and {valid.dtype} {list(valid.shape)}"
        )
    targets = frame_targets(events, classes, frame_rate, valid.shape[1])
    return evaluate(scores[valid], targets[valid], "multi-label")
