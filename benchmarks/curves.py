"""The drawing of section 5: small panels with logarithmic axes, legible on white and on black backgrounds."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

INK = "#808080"
COLOURS = ("#3b87d0", "#d9822b")
TITLES = {"time": "time (s)", "memory": "extra memory (MiB)"}
UNITS = {"time": 1.0, "memory": 2.0**20}


@dataclass(frozen=True)
class Curve:
    """Time (s) or memory (bytes) of one implementation at growing sizes along one axis."""

    way: str
    axis: str
    measured: str
    sizes: Sequence[int]
    values: Sequence[float]


def draw(curves: Sequence[Curve]) -> str:
    """Draw the curves.

    Parameters
    ----------
    curves : sequence of Curve. Each axis gets a column of panels, time above memory; each implementation a colour.

    Returns
    -------
    str. An SVG with a transparent background.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    axes = list(dict.fromkeys(c.axis for c in curves))
    rows = [measured for measured in TITLES if any(c.measured == measured for c in curves)]
    ways = list(dict.fromkeys(c.way for c in curves))
    style = {"svg.fonttype": "none", "svg.hashsalt": "otoscope", "font.family": "sans-serif", "font.size": 9}
    ink = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    with rc_context(style | ink):
        figure = Figure(figsize=(9.2, 1.0 + 2.1 * len(rows)), layout="constrained")
        panels = figure.subplots(len(rows), len(axes), sharex="col", sharey="row", squeeze=False)
        for curve in curves:
            panel = panels[rows.index(curve.measured)][axes.index(curve.axis)]
            colour, unit = COLOURS[ways.index(curve.way)], UNITS[curve.measured]
            values = [v / unit for v in curve.values]
            panel.loglog(curve.sizes, values, "o-", color=colour, markersize=3.5, label=curve.way)
        for row, measured in zip(panels, rows, strict=True):
            row[0].set_ylabel(TITLES[measured])
        for panel, axis in zip(panels[-1], axes, strict=True):
            panel.set_xlabel(axis)
        for panel in panels.flat:
            panel.patch.set_visible(False)
            panel.minorticks_off()
            panel.grid(color=INK, alpha=0.25, linewidth=0.6)
            panel.spines[["top", "right"]].set_visible(False)
        figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside upper left", ncols=2, frameon=False)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return out.getvalue()
