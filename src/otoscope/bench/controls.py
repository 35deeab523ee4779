"""Controls: the encoders of a suite with random weights.

A probe may read labels from tokens that nobody trained, and the more a probe can express, the more it reads. A
comparison therefore measures every encoder beside itself with random weights, and reports what a probe reads beyond
that (control tasks: Hewitt & Liang, EMNLP 2019, apply the same idea to probes of text).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from otoscope import encoders
from otoscope.bench.specs import EncoderSpec, unavailable_reason
from otoscope.bench.suites import Suite


def with_controls(suite: Suite) -> Suite:
    """Link each encoder of a suite to its control, and add the controls that the suite does not list.

    A listed encoder is the control of another one if it has the same name and the options that
    `Encoder.control_options` returns. Controls are added at the end, unless `suite.control` is False. No encoder is
    created.

    Parameters
    ----------
    suite : the suite.

    Returns
    -------
    The suite with `EncoderSpec.control_of` of every control. A suite to which it was applied before does not change.

    Examples
    --------
    >>> from otoscope.bench import suites
    >>> [(spec.label, spec.control_of) for spec in with_controls(suites.load("smoke")).encoders]
    [('tiny', None), ('tiny-random', 'tiny')]
    """
    listed = {spec.label: spec for spec in suite.encoders}
    added: list[EncoderSpec] = []
    for spec in suite.encoders:
        options = _control_options(spec)
        if options is None or options == dict(spec.options):
            continue
        control = _listed_control(spec, options, list(listed.values()))
        if control is not None:
            listed[control.label] = replace(control, control_of=spec.label)
        elif suite.control:
            label = _free_label(spec.label, [*listed, *(other.label for other in added)])
            added.append(EncoderSpec(spec.name, label, options, control_of=spec.label, added=True))
    return replace(suite, encoders=(*listed.values(), *added))


def _control_options(spec: EncoderSpec) -> dict[str, Any] | None:
    """The options of an encoder's control; None if it has none or is not available."""
    if unavailable_reason(spec):
        return None
    return encoders.registry.get(spec.name).control_options(dict(spec.options))


def _listed_control(spec: EncoderSpec, options: dict[str, Any], listed: Sequence[EncoderSpec]) -> EncoderSpec | None:
    """The listed encoder with these options that is not the control of another encoder."""
    same = [other for other in listed if (other.name, dict(other.options)) == (spec.name, options)]
    return next((other for other in same if other.control_of in (None, spec.label)), None)


def _free_label(label: str, taken: Sequence[str]) -> str:
    """The label of a control that is added: `label` with the ending "-random", and a number if that is taken."""
    labels = (f"{label}-random{number if number > 1 else ''}" for number in count(1))
    return next(free for free in labels if free not in taken)
