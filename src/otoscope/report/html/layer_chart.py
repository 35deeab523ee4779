"""Charts of layer profiles as SVG: one curve over the layers for each probe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from otoscope.metrics.stats import Interval
from otoscope.report.html import svg
from otoscope.report.html.charts import COLOURS
from otoscope.report.html.figures import WIDTH
from otoscope.report.text import numbers

LEFT, RIGHT, TOP, HEIGHT = 60.0, 150.0, 16.0, 300.0
_NAME_HEIGHT = 17.0
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25)


@dataclass(frozen=True)
class Curve:
    """The values of one probe over the layers of an encoder.

    Parameters
    ----------
    name : the probe.
    values : value and interval of each layer; an interval without ends has nan.
    together : value of several layers together; None if there is none.
    colour : number of the colour.
    dashed : True for a control. It is drawn without intervals.
    best : the layer that is marked; None for no mark.
    """

    name: str
    values: Mapping[int, Interval]
    together: Interval | None
    colour: int
    dashed: bool = False
    best: int | None = None


def layer_chart(curves: Sequence[Curve], together: str, label: str) -> str:
    """Draw curves over the layers, and beside them the values of several layers together.

    Parameters
    ----------
    curves : the curves. Each probe has another colour; a control has that of its probe.
    together : name of the layers together, below their column.
    label : a description of the figure for screen readers.

    Returns
    -------
    An SVG element.
    """
    frame = _Frame.of(curves)
    parts = frame.grid(together)
    for draw in (_band, _line, _points):
        for curve in curves:
            parts += draw(curve, frame)
    return svg.drawing(WIDTH, TOP + HEIGHT + 46, [*parts, *_curve_names(curves, frame)], label)


@dataclass(frozen=True)
class _Frame:
    """The axes: the layers, whether there is a column of layers together, the range of values, the number of colours.

    The axis of values begins at 0, unless all values lie in the upper half of it.
    """

    layers: tuple[int, ...]
    with_together: bool
    low: float
    high: float
    step: float
    colours: int

    @classmethod
    def of(cls, curves: Sequence[Curve]) -> _Frame:
        layers = sorted({layer for curve in curves for layer in curve.values})
        intervals = [value for curve in curves for value in _all(curve)]
        ends = [end for v in intervals for end in (v.value, v.low, v.high) if not math.isnan(end)]
        lowest = min(ends) if min(ends) < 0 or min(ends) > max(ends) / 2 else 0.0
        spread = max(max(ends) - lowest, 0.02)
        step = next((s for s in _STEPS if spread / s <= 6), _STEPS[-1])
        low, high = math.floor(lowest / step + 1e-9) * step, math.ceil(max(ends) / step - 1e-9) * step
        together, colours = any(curve.together for curve in curves), len({curve.colour for curve in curves})
        return cls(tuple(layers), together, low, max(high, low + step), step, colours)

    def x(self, layer: int | None, shift: float = 0.0) -> float:
        """Position of a layer; None for the column of layers together."""
        columns = len(self.layers) - 1 + 1.5 * self.with_together
        column = columns if layer is None else self.layers.index(layer)
        return LEFT + 20 + (WIDTH - LEFT - RIGHT - 20) * column / max(columns, 1) + shift

    def beside(self, colour: int) -> float:
        """Position of a curve in the column of layers together, where the curves lie side by side."""
        distance = min(12.0, 32 / max(self.colours - 1, 1))
        return self.x(None, distance * (colour - (self.colours - 1) / 2))

    def y(self, value: float) -> float:
        """Height of a value."""
        return TOP + HEIGHT * (self.high - value) / (self.high - self.low)

    def grid(self, together: str) -> list[str]:
        """Horizontal lines with their values, the names of the columns, and the title of the axis."""
        end, bottom, parts = WIDTH - RIGHT + 14, TOP + HEIGHT, []
        for value in np.arange(self.low, self.high + self.step / 2, self.step).tolist():
            style = "axis" if abs(value - max(self.low, 0)) < 1e-9 else "grid"
            parts += [svg.line(LEFT, self.y(value), end, self.y(value), style)]
            parts += [svg.text(LEFT - 8, self.y(value) + 4, numbers.whole_percent(value), "tick", "end")]
        every = math.ceil(len(self.layers) / 26)
        for layer in self.layers[::every]:
            parts.append(svg.text(self.x(layer), bottom + 20, layer, "tick", "middle"))
        if self.with_together:
            parts.append(svg.text(self.x(None), bottom + 20, together, "tick", "middle"))
        middle = (self.x(self.layers[0]) + self.x(self.layers[-1])) / 2
        return [*parts, svg.text(middle, bottom + 40, "layer", "tick", "middle")]


def _all(curve: Curve) -> list[Interval]:
    return [*curve.values.values(), *([curve.together] if curve.together else [])]


def _band(curve: Curve, frame: _Frame) -> list[str]:
    """The area between the ends of the intervals."""
    known = [(layer, value) for layer, value in curve.values.items() if not math.isnan(value.low)]
    if curve.dashed or len(known) < len(curve.values):
        return []
    upper = [(frame.x(layer), frame.y(value.high)) for layer, value in known]
    lower = [(frame.x(layer), frame.y(value.low)) for layer, value in known]
    return [svg.polygon([*upper, *lower[::-1]], f"colour{curve.colour % COLOURS} band")]


def _line(curve: Curve, frame: _Frame) -> list[str]:
    style = f"colour{curve.colour % COLOURS} curve" + (" curve-dashed" if curve.dashed else "")
    return [svg.polyline([(frame.x(layer), frame.y(v.value)) for layer, v in curve.values.items()], style)]


def _points(curve: Curve, frame: _Frame) -> list[str]:
    """A dot for each value, a ring around the best layer, and the interval of layers together as a vertical line."""
    style, parts = f"colour{curve.colour % COLOURS}", []
    radius = 2.2 if curve.dashed else 3.6
    for layer, value in curve.values.items():
        hint = f"{curve.name}, layer {layer}: {_words(value)}"
        parts.append(svg.dot(frame.x(layer), frame.y(value.value), radius, f"{style} mark", hint))
        if layer == curve.best:
            parts.append(svg.dot(frame.x(layer), frame.y(value.value), 7, f"{style} ring"))
    if curve.together:
        value, x = curve.together, frame.beside(curve.colour)
        if not (curve.dashed or math.isnan(value.low)):
            parts.append(svg.line(x, frame.y(value.low), x, frame.y(value.high), f"{style} range"))
        hint = f"{curve.name}, layers together: {_words(value)}"
        parts.append(svg.dot(x, frame.y(value.value), radius, f"{style} mark", hint))
    return parts


def _curve_names(curves: Sequence[Curve], frame: _Frame) -> list[str]:
    """The name of each probe at the right margin, beside its last value; names do not overlap."""
    named = [curve for curve in curves if not curve.dashed]
    ends = {curve.name: _all(curve)[-1].value for curve in named}
    named.sort(key=lambda curve: -ends[curve.name])
    parts, lowest = [], -math.inf
    for i, curve in enumerate(named):
        limit = TOP + HEIGHT - _NAME_HEIGHT * (len(named) - 1 - i)
        y = max(lowest + _NAME_HEIGHT, min(frame.y(ends[curve.name]) + 4.5, limit))
        parts.append(
            svg.text(WIDTH - RIGHT + 26, y, curve.name, f"colour{curve.colour % COLOURS} curve-name", space=RIGHT - 26)
        )
        lowest = y
    return parts


def _words(value: Interval) -> str:
    ends = "" if math.isnan(value.low) else f" ({numbers.percent(value.low)} to {numbers.percent(value.high)})"
    return f"{numbers.percent(value.value)}{ends}"
