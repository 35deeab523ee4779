"""The main statements about one encoder and data set, as sentences that its numbers and intervals support."""

from __future__ import annotations

import math
from collections.abc import Sequence

from otoscope.metrics import stats
from otoscope.metrics.stats import Difference
from otoscope.report.convergence import caveat
from otoscope.report.rows import LINEAR, Row, difference
from otoscope.report.selectivity import find_control
from otoscope.report.text.numbers import percent


def claim(rows: Sequence[Row]) -> str:
    """The main statement about one encoder and data set.

    Parameters
    ----------
    rows : rows of one encoder and data set, as `summarise` returns them.

    Returns
    -------
    str. The best probe with its score, and the score of the linear probe. A score that has not converged is marked.
    """
    best, linear = _best(rows), next((r for r in rows if r.probe == LINEAR), None)
    statement = f"{best.label} reaches {_score(best)} {best.metric} on frozen {best.encoder}"
    if linear is None or best.probe == LINEAR:
        return f"{statement}, data set {best.dataset}"
    return f"{statement}, a linear probe {_score(linear)}"


def reasons(rows: Sequence[Row], others: Sequence[Row]) -> list[str]:
    """Sentences that support the claim.

    Parameters
    ----------
    rows : rows of one encoder and data set.
    others : rows of other encoders and data sets, including those of controls.

    Returns
    -------
    list of str. Gain over the linear probe, share of the gap to fine-tuning, lead over the second-best probe, and gain
    over an encoder with random weights; then which of these have not converged. A sentence is omitted where its numbers
    were not measured.
    """
    best = _best(rows)
    control = find_control(best, [*rows, *others])
    sentences = [_gain(best), _gap(best), _lead(rows, best), _control(best, control), *_caveats(rows, best, control)]
    return [sentence for sentence in sentences if sentence]


def _score(row: Row) -> str:
    return percent(row.value) + (" (not converged)" if row.convergence.incomplete else "")


def _caveats(rows: Sequence[Row], best: Row, control: Row | None) -> list[str]:
    """A sentence for each row that the other sentences compare and that has not converged."""
    compared = [best, *(row for row in rows if row.probe == LINEAR or row.finetuned), *_second(rows, best)]
    sides = {row.label: row.convergence for row in compared}
    sides |= {f"{control.label} on {control.encoder}": control.convergence} if control else {}
    clauses = [caveat([side], "the encoder", comparison="a comparison with it") for side in sides.items()]
    return [f"{clause}." for clause in clauses if clause]


def _best(rows: Sequence[Row]) -> Row:
    probes = [r for r in rows if not r.finetuned] or list(rows)
    return max(probes, key=lambda r: r.sort_key)


def _gain(best: Row) -> str:
    if best.gain is None:
        return ""
    gain = f"a gain of {percent(best.gain.value)} points over linear"
    return f"On {best.dataset} that is {gain}{_interval_text(best.gain)}."


def _gap(best: Row) -> str:
    if best.gap is None or math.isnan(best.gap.value):
        return ""
    ends = "" if math.isnan(best.gap.low) else f" ({100 * best.gap.low:.0f} to {100 * best.gap.high:.0f} %)"
    return f"It closes {100 * best.gap.value:.0f} % of the gap to fine-tuning the whole encoder{ends}."


def _lead(rows: Sequence[Row], best: Row) -> str:
    second = next(iter(_second(rows, best)), None)
    if second is None or not (best.estimate and second.estimate):
        return ""
    if best.estimate.resampling != second.estimate.resampling:
        return ""
    lead = stats.improvement(best.estimate, second.estimate)
    return f"Its lead over {second.label} is {percent(lead.value)} points{_interval_text(lead)}."


def _second(rows: Sequence[Row], best: Row) -> list[Row]:
    """The second-best probe without the linear ones; an empty list if there is none."""
    others = [r for r in rows if not r.finetuned and r.probe != LINEAR and r is not best]
    return sorted(others, key=lambda r: r.sort_key)[-1:]


def _control(best: Row, control: Row | None) -> str:
    if control is None:
        return ""
    beyond = difference(best, control)
    words = f"{percent(abs(beyond.value))} points {'worse' if beyond.value >= 0 else 'better'}"
    return (
        f"The same probe reaches {percent(control.value)} on {control.encoder}, which has random weights, and is "
        f"{words} there{_interval_text(beyond)}."
    )


def _interval_text(interval: Difference) -> str:
    """The interval in brackets, with a remark if it contains zero or is unreliable."""
    if math.isnan(interval.low):
        return ""
    ends = f" (95 % interval {percent(interval.low)} to {percent(interval.high)}"
    remark = ", so the test clips do not decide it" if interval.low <= 0 <= interval.high else ""
    if math.isnan(interval.p):
        remark = f", unreliable with fewer than {stats.MIN_GROUPS} groups"
    return f"{ends}{remark})"
