"""What a table says, in sentences: no more than its numbers and intervals carry."""

from __future__ import annotations

import math
from collections.abc import Sequence

from otoscope.metrics import stats
from otoscope.metrics.stats import Interval
from otoscope.report.table import LINEAR, Row
from otoscope.report.text.numbers import percent


def claim(cell: Sequence[Row]) -> str:
    """The headline of one encoder and data set."""
    best, linear = _winner(cell), next((r for r in cell if r.probe == LINEAR), None)
    reads = f"{best.label} reads {percent(best.value)} {best.metric} from frozen {best.encoder}"
    if linear is None or best.probe == LINEAR:
        return f"{reads} on {best.dataset}"
    return f"{reads}, a linear probe {percent(linear.value)}"


def reasons(cell: Sequence[Row], others: Sequence[Row]) -> list[str]:
    """Sentences under the headline: gain, gap closed, lead, control. `others`: rows of other encoders and data sets."""
    best = _winner(cell)
    found = [_gain(best), _gap(best), _lead(cell, best), _control(best, others)]
    return [sentence for sentence in found if sentence]


def _winner(cell: Sequence[Row]) -> Row:
    probes = [r for r in cell if not r.finetuned] or list(cell)
    return max(probes, key=lambda r: r.sort_key)


def _gain(best: Row) -> str:
    if best.gain is None:
        return ""
    words = f"On {best.dataset} that is a gain of {percent(best.gain.value)} points over linear"
    return f"{words}{_within(best.gain)}."


def _gap(best: Row) -> str:
    if best.gap is None or math.isnan(best.gap.value):
        return ""
    ends = "" if math.isnan(best.gap.low) else f" ({100 * best.gap.low:.0f} to {100 * best.gap.high:.0f} %)"
    return f"It closes {100 * best.gap.value:.0f} % of the gap to fine-tuning the whole encoder{ends}."


def _lead(cell: Sequence[Row], best: Row) -> str:
    chasers = [r for r in cell if not r.finetuned and r.probe != LINEAR and r is not best]
    second = max(chasers, key=lambda r: r.sort_key, default=None)
    if second is None or not (best.estimate and second.estimate):
        return ""
    if best.estimate.resampling != second.estimate.resampling:
        return ""
    found = stats.improvement(best.estimate, second.estimate)
    return f"Its lead over {second.label} is {percent(found.value)} points{_within(found)}."


def _control(best: Row, others: Sequence[Row]) -> str:
    same = [r for r in others if (r.dataset, r.label) == (best.dataset, best.label) and r.control]
    if not same or best.control:
        return ""
    control, apart = percent(same[0].value), percent(best.sort_key - same[0].sort_key)
    return f"With random weights the same probe reads {control}: what the encoder learnt is worth {apart} points."


def _within(interval: Interval) -> str:
    if math.isnan(interval.low):
        return ""
    ends = f" (95 % interval {percent(interval.low)} to {percent(interval.high)}"
    unsure = ", so the test clips do not decide it" if interval.low <= 0 <= interval.high else ""
    return f"{ends}{unsure})".replace("-", "−")
