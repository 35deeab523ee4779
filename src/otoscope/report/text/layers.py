"""Layer profiles as text: a table of scores, and a table of differences from the control."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from otoscope.report import convergence
from otoscope.report.layers import LayerProfile
from otoscope.report.rows import Row
from otoscope.report.text import summary
from otoscope.report.text.numbers import ABSENT, difference, percent
from otoscope.report.text.table import BEST_LAYER, TextFormat, TextTable, document
from otoscope.report.variants import written_layers

Write = Callable[[LayerProfile, Row], str]
"""Writes one table cell: the value of a row of a profile."""


def layers_text(profiles: Sequence[LayerProfile], text_format: TextFormat = "table") -> str:
    """Write the tables of layer profiles, and the notes below the last one.

    Parameters
    ----------
    profiles : profiles, as `layer_profiles` returns them.
    text_format : "table", "markdown" or "latex".
    """
    groups: dict[tuple[str, ...], list[LayerProfile]] = {}
    for profile in profiles:
        groups.setdefault(profile.rows[0].pair, []).append(profile)
    tables = [table for group in groups.values() for table in layer_tables(group)]
    return document(tables, notes(profiles), text_format)


def layer_tables(profiles: Sequence[LayerProfile]) -> list[tuple[str, TextTable]]:
    """Make the tables of one encoder and data set, each with its title.

    Parameters
    ----------
    profiles : its profiles, one for each column.

    Returns
    -------
    list of (title, table). The scores, and where there is a control the differences from it.
    """
    first = profiles[0].rows[0]
    tables = [(summary.title([row for profile in profiles for row in profile.rows]), _table(profiles, _score))]
    controls = list(dict.fromkeys(profile.control.rows[0].encoder for profile in profiles if profile.control))
    if controls:
        beyond = f"{first.encoder} beyond {' and '.join(controls)}: points of {first.metric} more than random weights"
        tables.append((beyond, _table(profiles, _difference)))
    return tables


def notes(profiles: Sequence[LayerProfile]) -> list[str]:
    """Explain the mark of the best layer, and list the rows that have not converged."""
    marked = any(profile.best_layer is not None for profile in profiles)
    lines = [f"{BEST_LAYER} single layer with the best score on the validation split"] if marked else []
    shown = [profile for one in profiles for profile in (one, one.control) if profile]
    rows = {f"{row.encoder}, {row.dataset}, {row.label}": row for profile in shown for row in profile.rows}
    return [*lines, *convergence.notes((name, row.convergence) for name, row in rows.items())]


def layer_name(row: Row) -> str:
    """Write the layers that a row reads: "3", "0-11" or "0, 4, 8"."""
    return written_layers(row.records[0].protocol.layers)


def _table(profiles: Sequence[LayerProfile], write: Write) -> TextTable:
    """Make a table with one line for each choice of layers, and one column for each profile."""
    layers = dict.fromkeys(layer for profile in profiles for layer in profile.single)
    body = [
        [str(layer), *(write(p, p.single[layer]) if layer in p.single else ABSENT for p in profiles)]
        for layer in sorted(layers)
    ]
    together = dict.fromkeys(layer_name(profile.together) for profile in profiles if profile.together)
    for name in together:
        cells = [write(p, p.together) if p.together and layer_name(p.together) == name else ABSENT for p in profiles]
        body.append([name, *cells])
    return TextTable(["layer", *(profile.name for profile in profiles)], body, left_columns=1 + len(profiles))


def _score(profile: LayerProfile, row: Row) -> str:
    """Write a score with its interval, and the mark of the best layer."""
    interval = row.interval
    ends = f" [{percent(interval.low)}, {percent(interval.high)}]" if interval else ""
    best = profile.best_layer is not None and row is profile.single[profile.best_layer]
    return f"{percent(row.value)}{row.convergence.mark}{ends}" + (f" {BEST_LAYER}" if best else "")


def _difference(profile: LayerProfile, row: Row) -> str:
    """Write the difference from the control with its interval."""
    return difference(profile.beyond_control(row))
