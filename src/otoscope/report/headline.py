"""The headline about one data set and the sentences that support it, as its numbers and intervals allow."""

from __future__ import annotations

import math
from collections.abc import Sequence

from otoscope.metrics import stats
from otoscope.metrics.stats import Difference
from otoscope.report.convergence import caveat
from otoscope.report.rows import LINEAR, Row, complete_probes, difference, references
from otoscope.report.selectivity import find_control
from otoscope.report.text.numbers import percent


def main_dataset(rows: Sequence[Row]) -> list[Row]:
    """The rows of the data set that the report speaks of first: that with most rows, without controls.

    Parameters
    ----------
    rows : rows of any encoders and data sets, as `summarise` returns them; at least one.

    Returns
    -------
    list of Row. Rows of all encoders on this data set that share a metric; controls only if there is nothing else.
    """
    measured = [row for row in rows if not row.control] or list(rows)
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in measured:
        groups.setdefault((row.dataset, row.metric), []).append(row)
    return max(groups.values(), key=len)


def headline_of(rows: Sequence[Row]) -> str:
    """The main statement about one data set.

    Parameters
    ----------
    rows : rows of one data set, as `main_dataset` returns them.

    Returns
    -------
    str. The best probe with its encoder and score, and the score of the linear probe on the same encoder. A score that
    has not converged is marked. With several encoders, the statement says that it compares them.
    """
    best, encoders = best_row(rows), len({row.pair for row in rows})
    linear, _ = references(best, rows)
    statement = f"{best.label} reaches {_score(best)} {best.metric} on frozen {best.encoder}"
    if encoders > 1:
        statement += f", the best of {encoders} encoders on {best.dataset}"
    elif linear is None or best.probe == LINEAR:
        statement += f", data set {best.dataset}"
    return statement if linear is None or best.probe == LINEAR else f"{statement}, a linear probe {_score(linear)}"


def reasons(rows: Sequence[Row], others: Sequence[Row]) -> list[str]:
    """Sentences that support the headline.

    Parameters
    ----------
    rows : rows of one data set.
    others : rows of other data sets, and those of controls.

    Returns
    -------
    list of str. Lead over the second-best encoder; for the best encoder its gain over the linear probe, the share of
    the gap to fine-tuning, the lead over the second-best probe, and the gain over an encoder with random weights; then
    which of these have not converged, and the number of other data sets. A sentence is omitted where its numbers were
    not measured.
    """
    best = best_row(rows)
    same, control = [row for row in rows if row.pair == best.pair], find_control(best, [*rows, *others])
    sentences = [_encoder_lead(rows, best), _gain(best), _gap(best), _lead(same, best), _control(best, control)]
    sentences += [*_caveats(same, best, control), _other_datasets(best, others)]
    return [sentence for sentence in sentences if sentence]


def best_row(rows: Sequence[Row]) -> Row:
    """The row with the best score of a frozen encoder over all folds; of a fine-tuned one if there is no other."""
    probes = complete_probes(rows) or list(rows)
    return max(probes, key=lambda r: r.sort_key)


def _encoder_lead(rows: Sequence[Row], best: Row) -> str:
    """The lead over the best probe of the second-best encoder."""
    others = [row for row in rows if row.pair != best.pair and row.finetuned == best.finetuned]
    if not others:
        return ""
    second = max(others, key=lambda row: row.sort_key)
    lead = difference(best, second)
    return (
        f"The second-best encoder on {best.dataset}, {second.encoder}, reaches {_score(second)} with {second.label}; "
        f"the lead is {percent(lead.value)} points{_interval_text(lead)}."
    )


def _other_datasets(best: Row, others: Sequence[Row]) -> str:
    names = sorted({row.dataset for row in others} - {best.dataset})
    return f"There are also results for {', '.join(names)}." if names else ""


def _score(row: Row) -> str:
    return percent(row.value) + (" (not converged)" if row.convergence.incomplete else "")


def _caveats(rows: Sequence[Row], best: Row, control: Row | None) -> list[str]:
    """A sentence for each row that the other sentences compare and that has not converged."""
    compared = [best, *filter(None, references(best, rows)), *_second(rows, best)]
    sides = {row.label: row.convergence for row in compared}
    sides |= {f"{control.label} on {control.encoder}": control.convergence} if control else {}
    clauses = [caveat([side], "the encoder", comparison="a comparison with it") for side in sides.items()]
    return [f"{clause}." for clause in clauses if clause]


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
