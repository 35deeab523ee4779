"""The report's figures, as SVG: bars with intervals, classes, and one clip with its activation map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from otoscope.report.html import svg
from otoscope.report.rows import LINEAR, Row
from otoscope.report.text import numbers
from otoscope.report.text.table import RECORDED
from otoscope.results import FINETUNE
from otoscope.results.activation_map import ActivationMap

WIDTH, LEFT, RIGHT = 920.0, 160.0, 70.0
PLOT = WIDTH - LEFT - RIGHT
SHOWN_CLASSES = 60


def bar_chart(rows: Sequence[Row]) -> str:
    """Draw the main score of every probe of one data set as a bar with its 95 % interval.

    Parameters
    ----------
    rows : rows of one data set. The bars of the encoder that appears first are wide, those of the others narrow; where
        there are several others, their names are in their bars.

    Returns
    -------
    An SVG element.
    """
    encoders = list(dict.fromkeys(row.encoder for row in rows))
    labels = list(dict.fromkeys(row.label for row in rows if row.encoder == encoders[0]))
    labels += [label for label in dict.fromkeys(row.label for row in rows) if label not in labels]
    top = _nice_end(max(row.interval.high if row.interval else row.value for row in rows))
    narrow = 9.0 if len(encoders) == 2 else 14.0
    parts, y = [], 34.0
    for label in labels:
        group = [r for e in encoders for r in rows if (r.encoder, r.label) == (e, label)]
        heights = [20.0 if row.encoder == encoders[0] else narrow for row in group]
        parts.append(svg.text(LEFT - 12, y + heights[0] / 2 + 5, label, "label", "end"))
        for row, height in zip(group, heights, strict=True):
            parts.append(_bar(row, y, height, top, row.encoder == encoders[0]))
            if len(encoders) > 2 and row.encoder != encoders[0]:
                parts.append(svg.text(LEFT + 6, y + height / 2 + 3.5, row.encoder, "small"))
            y += height + 3
        y += 13
    grid = _grid(top, 22, y - 8)
    return svg.drawing(WIDTH, y, [*grid, *parts], f"{rows[0].metric} of every probe with 95 % intervals")


def class_chart(scores: Mapping[str, Mapping[str, float]], winner: str) -> str:
    """Draw the average precision of every class under every probe, sorted by the gain of the winner over "linear".

    Parameters
    ----------
    scores : average precision by probe label and class; "linear" and `winner` are among the labels. With more than 60
        classes, the 30 with the largest and the 30 with the smallest gain are drawn.
    winner : label of the best probe.

    Returns
    -------
    An SVG element.
    """
    base, best = scores[LINEAR], scores[winner]
    ordered = sorted(base, key=lambda name: base[name] - best[name])
    if len(ordered) > SHOWN_CLASSES:
        ordered = ordered[: SHOWN_CLASSES // 2] + ordered[-SHOWN_CLASSES // 2 :]
    parts, y = [], 40.0
    for name in ordered:
        low, high = (_x(probe[name], 1.0) for probe in (base, best))
        parts.append(svg.text(LEFT - 12, y + 4, name, "label", "end"))
        parts.append(svg.line(low, y, high, y, "gain" if high >= low else "gain loss"))
        parts += [_class_mark(label, winner, name, values[name], y) for label, values in scores.items()]
        change = 100 * (best[name] - base[name])
        parts.append(svg.text(WIDTH - 4, y + 4, f"{change:+.1f}".replace("-", "−"), "number", "end"))
        y += 21
    head = [svg.text(WIDTH - 4, 14, "gain", "tick", "end")]
    return svg.drawing(WIDTH, y + 2, [*_grid(1.0, 22, y - 8), *head, *parts], "average precision of every class")


def activation_chart(clip: ActivationMap) -> str:
    """Draw one clip: its events, its spectrogram and the activation map of a prototype, on one time axis.

    Parameters
    ----------
    clip : the clip and its activation map.

    Returns
    -------
    An SVG element.
    """
    lanes = _lanes(clip)
    strips = 30.0 + 20 * len(set(lanes)) + 8
    mel_y, mel_height, map_height = strips, 190.0, 96.0
    map_y = mel_y + mel_height + 12
    low, high = np.percentile(clip.log_mel, [5, 99.7])
    mel = (clip.log_mel.T[::-1] - low) / max(high - low, 1e-9)
    end = clip.activation.shape[0] / clip.frame_rate
    width = PLOT * min(end / clip.seconds, 1.0)
    columns = clip.activation[: int(np.ceil(clip.seconds * clip.frame_rate))]
    low, high = float(columns.min()), float(columns.max())
    heat = (columns.T[::-1] - low) / max(high - low, 1e-9)
    parts = [
        *_events(clip, lanes),
        svg.image(mel, "magma", (LEFT, mel_y, PLOT, mel_height)),
        svg.image(heat, "cividis", (LEFT, map_y, width, map_height), "pixels"),
        *_most_similar(clip, columns, (mel_y, mel_height), (map_y, map_height)),
        *_axis_labels(["log-mel", "spectrogram"], mel_y + mel_height / 2),
        *_axis_labels([f"prototype {clip.prototype}", f"of “{clip.class_name}”"], map_y + map_height / 2),
        svg.text(WIDTH - RIGHT + 8, map_y + 10, _cosine(high), "tick"),
        svg.text(WIDTH - RIGHT + 8, map_y + 24, "cosine", "tick"),
        svg.text(WIDTH - RIGHT + 8, map_y + map_height, _cosine(low), "tick"),
        *_seconds(clip.seconds, map_y + map_height + 16),
    ]
    label = f"clip {clip.clip_id} with its events, spectrogram and the activation of a prototype of {clip.class_name}"
    return svg.drawing(WIDTH, map_y + map_height + 24, parts, label)


def _bar(row: Row, y: float, height: float, top: float, primary: bool) -> str:
    style = "bar-reference" if row.finetuned else "bar-best" if row.winner else "bar"
    hint = f"{row.encoder}, {row.label}: {numbers.percent(row.value)} ({numbers.span(row.interval)})"
    hint += f", not converged: {row.convergence.reasons()}" if row.convergence.incomplete else ""
    parts = [svg.rect(LEFT, y, _x(row.value, top) - LEFT, height, style if primary else f"{style} faint", hint)]
    end = _x(row.value, top)
    if row.interval:
        parts.append(svg.whisker(_x(row.interval.low, top), _x(row.interval.high, top), y + height / 2))
        end = _x(row.interval.high, top)
    label = numbers.percent(row.value) + row.convergence.mark + (f" {RECORDED}" if row.source else "")
    size = "number" if primary else "number small"
    parts.append(svg.text(end + 8, y + height / 2 + (5 if primary else 3.5), label, size))
    return "".join(parts)


def _class_mark(label: str, winner: str, name: str, value: float, y: float) -> str:
    x, hint = _x(value, 1.0), f"{name}, {label}: {numbers.percent(value)}"
    if label == FINETUNE:
        return svg.rect(x - 1, y - 6, 2, 12, "mark-reference", hint, 1)
    style = {LINEAR: "dot-base", winner: "dot-best"}.get(label, "dot-other")
    return svg.dot(x, y, 3 if style == "dot-other" else 4.5, style, hint)


def _lanes(clip: ActivationMap) -> list[int]:
    """A lane for every event, so that no two events in one lane overlap; assigned in the order of onsets."""
    free: list[float] = []
    lanes = [0] * len(clip.event_labels)
    for i in np.argsort(clip.event_onsets, kind="stable"):
        lane = next((k for k, end in enumerate(free) if end <= clip.event_onsets[i]), len(free))
        free[lane : lane + 1] = [float(clip.event_offsets[i])]
        lanes[i] = lane
    return lanes


def _events(clip: ActivationMap, lanes: Sequence[int]) -> list[str]:
    parts = _axis_labels(["events"], 34) if lanes else []
    for on, off, name, lane in zip(clip.event_onsets, clip.event_offsets, clip.event_labels, lanes, strict=True):
        x, end = (LEFT + PLOT * min(float(t) / clip.seconds, 1.0) for t in (on, off))
        y = 22 + 20 * lane
        style = "event event-shown" if name == clip.class_name else "event"
        parts.append(svg.rect(x, y, end - x, 17, style, f"{name}: {on:.2f} – {off:.2f} s", 3))
        parts.append(_event_name(x, end, y + 12.5, name, name == clip.class_name))
    return parts


def _event_name(x: float, end: float, y: float, name: str, highlighted: bool) -> str:
    """The class of an event inside its bar, or beside a bar that is too short for it."""
    space = 6.3 * len(name) + 10
    style = "event-name event-name-shown" if highlighted else "event-name"
    if end - x >= space:
        return svg.text(x + 5, y, name, style)
    if end + space <= WIDTH:
        return svg.text(end + 4, y, name, "event-name")
    return svg.text(x - 4, y, name, "event-name", "end")


def _most_similar(
    clip: ActivationMap, columns: np.ndarray, mel: tuple[float, float], heat: tuple[float, float]
) -> list[str]:
    """Outlines of the most similar token in both images."""
    t, f = np.unravel_index(int(columns.argmax()), columns.shape)
    wide = PLOT / (clip.seconds * clip.frame_rate)
    parts = []
    for y, height in (mel, heat):
        tall = height / columns.shape[1]
        box = (LEFT + wide * t, y + height - tall * (int(f) + 1), wide, tall)
        parts += [svg.rect(*box, "outline-under"), svg.rect(*box, "outline", "the most similar token")]
    return parts


def _axis_labels(lines: Sequence[str], middle: float) -> list[str]:
    """Lines of text at the left margin, centred vertically on `middle`."""
    start = middle - 8 * (len(lines) - 1) + 4
    return [svg.text(LEFT - 12, start + 16 * i, line, "label", "end") for i, line in enumerate(lines)]


def _cosine(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _seconds(length: float, y: float) -> list[str]:
    step = next(s for s in (0.25, 0.5, 1, 2, 5, 10, 30, 60, 600, 1e9) if length / s <= 12)
    marks = np.arange(0, length + 1e-6, step)
    return [svg.text(LEFT + PLOT * t / length, y, f"{t:g}{' s' if t == 0 else ''}", "tick", "middle") for t in marks]


def _grid(top: float, start: float, end: float) -> list[str]:
    step = next(s for s in (0.02, 0.05, 0.1, 0.2, 0.25) if top / s <= 6 or s == 0.25)
    parts = []
    for value in np.arange(0, top + 1e-9, step):
        x = _x(float(value), top)
        parts += [svg.line(x, start, x, end, "grid"), svg.text(x, 14, f"{100 * value:.0f}", "tick", "middle")]
    return parts


def _nice_end(value: float) -> float:
    return float(min(1.0, next(s for s in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 2.0) if s >= value)))


def _x(value: float, top: float) -> float:
    return LEFT + PLOT * min(max(value, 0.0), top) / top
