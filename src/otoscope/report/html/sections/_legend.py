"""The legend above a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from otoscope.report.html.svg import escape
from otoscope.report.rows import Row
from otoscope.report.text.numbers import resampled_units

_SYMBOLS = {
    "winner": '<rect class="bar-best" y="2" width="26" height="10" rx="2"/>',
    "other probes": '<rect class="bar" y="2" width="26" height="10" rx="2"/>',
    "fine-tuning": '<rect class="bar-reference" x="1" y="2" width="24" height="10" rx="2"/>',
    "control": '<rect class="bar faint" y="4" width="26" height="6" rx="2"/>',
    "interval": '<path class="whisker" d="M2 7H24M2 3.5V10.5M24 3.5V10.5"/>',
    "base dot": '<circle class="dot-base" cx="13" cy="7" r="4.5"/>',
    "best dot": '<circle class="dot-best" cx="13" cy="7" r="4.5"/>',
    "other dot": '<circle class="dot-other" cx="13" cy="7" r="3"/>',
    "band": '<rect class="colour3 band" width="26" height="14"/>',
    "dashed": '<path class="colour3 curve curve-dashed" d="M0 7H26"/>',
    "ring": '<circle class="colour3 mark" cx="13" cy="7" r="3.2"/><circle class="colour3 ring" cx="13" cy="7" r="6"/>',
    "undecided": '<rect class="bar" y="1" width="26" height="12" rx="6" opacity=".45"/>',
    "group": '<path class="group" d="M4 7H22"/>',
    "reference mark": '<rect class="mark-reference" x="12" y="1" width="2" height="12" rx="1"/>',
}


def interval_entry(symbol: str, rows: Sequence[Row]) -> dict[str, str]:
    """The entry that explains the intervals of rows, with what they describe the variation over; empty without any."""
    groups = [row.estimate.groups for row in rows if row.interval and row.estimate]
    return {symbol: f"95 % interval over {resampled_units(groups)}"} if groups else {}


def legend(entries: Mapping[str, str]) -> str:
    """Write a legend.

    Parameters
    ----------
    entries : mapping of str to str. A symbol of this module, and the text next to it.

    Returns
    -------
    str. HTML.
    """
    items = (
        f'<span><svg viewBox="0 0 26 14">{_SYMBOLS[symbol]}</svg>{escape(text)}</span>'
        for symbol, text in entries.items()
    )
    return f'<div class="key">{"".join(items)}</div>'
