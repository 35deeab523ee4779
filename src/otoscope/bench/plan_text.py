"""The text of a plan, which a dry run prints: studies, banks, what is missing, and the estimated time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from otoscope.printable import printable_lines

if TYPE_CHECKING:
    from otoscope.bench.plan import Pair, Plan, Run, Study


def describe(plan: Plan) -> str:
    """Write the text of a plan.

    Parameters
    ----------
    plan : the plan.
    """
    suite, lines = plan.suite, [f"suite {plan.suite.name}: {plan.suite.about}"]
    width = max(12, *(len(spec.label) for spec in suite.probes))
    for pair, studies in groupby(plan.studies(), lambda item: item[0].pair):
        control_of = suite.encoder(pair.encoder).control_of
        control = f" (control of {control_of})" if control_of else ""
        lines.append(f"{pair}{control}: bank {_bank_line(plan, pair)}")
        lines += [f"  {study.probe:{width}} {_study_line(study, runs)}" for study, runs in studies]
    lines += [printable_lines(f"missing {item.kind} {item.name!r}: {item.reason}") for item in plan.unavailable]
    lines += [f"note: {remark}" for remark in plan.remarks]
    prefix = "about " if plan.seconds >= 1 else ""
    lines.append(
        f"{_plural(len(plan.runs), 'run')} to do, {plan.finished} done; {plan.bytes / 1e9:.2f} GB of banks "
        f"to write; {prefix}{rough_duration(plan.seconds)} ({plan.seconds / 3600:.2f} hours) on 2 cores"
    )
    controls = plan.only_added_controls()
    if controls.runs:
        lines.append(
            f"{_plural(len(controls.runs), 'run')} of these and {rough_duration(controls.seconds)} are for encoders "
            "with random weights; --no-control leaves them out"
        )
    return "\n".join(lines)


def _bank_line(plan: Plan, pair: Pair) -> str:
    """Describe the bank of a pair: the bytes to encode and the estimated time."""
    if pair not in plan.encoding:
        return "not needed"
    size, draws = plan.encoding[pair]
    if size.on_the_fly:
        number = plan.passes(pair)
        times = f"{number} passes" if number > 1 else "1 pass"
        return f"none, {times} over the clips, {rough_duration(size.pass_seconds(number))}"
    missing = size.missing_bytes(draws)
    if size is not plan.sizes[pair] and not missing:
        return "that of the first fold, which has the clips of all folds"
    return (
        f"{missing / 1e6:.1f} MB to encode, {rough_duration(size.encoding_seconds(draws))}" if missing else "complete"
    )


def _study_line(study: Study, runs: Sequence[Run]) -> str:
    """Describe the number of runs of a study and the time of each."""
    trials = sum(run.trial is not None for run in runs)
    few_shot = "" if study.shots is None else f"{study.shots} shots, draw {study.draw}: "
    counts = {"trial": trials, "seed": len(runs) - trials}
    parts = [_plural(n, what) for what, n in counts.items() if n]
    return f"{few_shot}{' + '.join(parts)}, {rough_duration(runs[0].seconds)} each"


def _plural(number: int, what: str) -> str:
    """
    >>> _plural(1, "run"), _plural(0, "run")
    ('1 run', '0 runs')
    """
    return f"{number} {what}{'' if number == 1 else 's'}"


def rough_duration(seconds: float) -> str:
    """Write an estimated duration in seconds, minutes or hours.

    Parameters
    ----------
    seconds : the duration in seconds.

    Examples
    --------
    >>> rough_duration(0.2), rough_duration(3), rough_duration(600), rough_duration(36000)
    ('under 1 s', '3 s', '10 min', '10.0 h')
    """
    if seconds < 1:
        return "under 1 s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
