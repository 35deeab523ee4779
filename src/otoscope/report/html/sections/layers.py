"""Curves of probes over the layers of an encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from otoscope.metrics.stats import Interval
from otoscope.report.html.layer_chart import Curve, layer_chart
from otoscope.report.html.sections._legend import interval_entry, legend
from otoscope.report.html.sections.base import ReportData, Section, register
from otoscope.report.html.svg import escape
from otoscope.report.layers import LayerProfile
from otoscope.report.rows import Row
from otoscope.report.text import layers, table


@register("layers")
class Layers(Section):
    """The main score of every single layer, and the difference from the encoder with random weights."""

    title = "Layer by layer"
    order = 25

    def body(self, data: ReportData) -> str | None:
        """Draw the profiles of each encoder and data set; None if no probe was measured at several single layers."""
        defined = [p for p in data.profiles if not any(math.isnan(row.value) for row in p.rows)]
        trained = [p for p in defined if not p.rows[0].control]
        shown = trained or defined
        groups = [list(group) for _, group in groupby(shown, key=lambda profile: profile.rows[0].pair)]
        return "\n".join(_profiles(group) for group in groups) or None


def _profiles(profiles: Sequence[LayerProfile]) -> str:
    """Write the figures and tables of one encoder and data set."""
    row = profiles[0].rows[0]
    tables = layers.layer_tables(profiles)
    scores = [_curve(i, p) for i, p in enumerate(profiles)]
    controls = [_curve(i, p.control, dashed=True) for i, p in enumerate(profiles) if p.control]
    names = sorted({p.control.rows[0].encoder for p in profiles if p.control})
    entries = interval_entry("band", [row for p in profiles for row in p.rows])
    entries |= {"dashed": f"the same with {' and '.join(names)}"} if names else {}
    entries |= {"ring": "best layer on the validation split"} if any(curve.best is not None for curve in scores) else {}
    label = f"{row.metric} of every layer of {row.encoder} on {row.dataset}"
    parts = [
        f"<h3>{escape(f'{row.encoder} on {row.dataset}')}</h3>",
        f'<p class="note">{escape(_note(row))}</p>',
        f"<figure>{legend(entries)}{layer_chart([*controls, *scores], _together(profiles), label)}</figure>",
    ]
    if names:
        difference = (
            f"{row.metric} in points beyond {' and '.join(names)}, whose weights are random, on the same clips."
        )
        beyond = layer_chart([_beyond(i, p) for i, p in enumerate(profiles)], _together(profiles), difference)
        parts += [f'<p class="note">{escape(difference)}</p>', f"<figure>{beyond}</figure>"]
    text = table.document(tables, layers.notes(profiles), "table")
    return "\n".join([*parts, f"<details><summary>Numbers</summary><pre>{escape(text)}</pre></details>"])


def _note(row: Row) -> str:
    return (
        f"{row.metric} in % of probes that read one layer of {row.encoder}, from 0 at the input, and on the right "
        "several layers together. Test scores are shown for every layer; the layer to use is chosen on the validation "
        "split."
    )


def _together(profiles: Sequence[LayerProfile]) -> str:
    """Name of the column of layers together."""
    names = {layers.layer_name(p.together) for p in profiles if p.together}
    counts = {len(p.single) == len(p.together.records[0].protocol.layers) for p in profiles if p.together}
    return "all" if counts == {True} else " / ".join(sorted(names))


def _curve(colour: int, profile: LayerProfile, *, dashed: bool = False) -> Curve:
    values = {layer: _interval(row) for layer, row in profile.single.items()}
    together = _interval(profile.together) if profile.together else None
    name = f"{profile.name}, {profile.rows[0].encoder}" if dashed else profile.name
    return Curve(name, values, together, colour, dashed, None if dashed else profile.best_layer)


def _interval(row: Row) -> Interval:
    return row.interval or Interval(row.value, np.nan, np.nan)


def _beyond(colour: int, profile: LayerProfile) -> Curve:
    """The curve of the differences from the control."""
    differences = {layer: profile.beyond_control(row) for layer, row in profile.single.items()}
    known = {layer: difference for layer, difference in differences.items() if difference}
    together = profile.beyond_control(profile.together) if profile.together else None
    return Curve(profile.name, known, together, colour)
