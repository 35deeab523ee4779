"""What to do about a key that a suite does not have."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import fields

from otoscope import search
from otoscope.bench.specs import DatasetSpec, ProbeSpec
from otoscope.registry import unknown
from otoscope.search import SearchSpec


def unknown_key(key: str, value: object, known: Iterable[str]) -> str:
    """The message about a key of a suite that does not exist.

    Parameters
    ----------
    key, value : the key and its value.
    known : the keys that exist.

    Returns
    -------
    str. For a key of the search, of a data set or of a probe, where it belongs.

    Examples
    --------
    >>> unknown_key("trials", 8, ["search", "seeds"])
    'unknown key \\'trials\\'; it belongs in the search: "search": {"kind": "sobol", "trials": 8}'
    >>> unknown_key("shots", 4, ["datasets"])
    'unknown key \\'shots\\'; it belongs in an entry of datasets: "datasets": [{"name": ..., "shots": 4}]'
    """
    shown = f"{json.dumps(key)}: {json.dumps(value, default=str)}"
    for kind in sorted(search.registry.names(), key=lambda name: name != SearchSpec.kind):
        if key in search.registry.options(kind):
            return f'unknown key {key!r}; it belongs in the search: "search": {{"kind": "{kind}", {shown}}}'
    for part, spec in (("datasets", DatasetSpec), ("probes", ProbeSpec)):
        if key in {field.name for field in fields(spec)} - {"name", "label", "options"}:
            return f'unknown key {key!r}; it belongs in an entry of {part}: "{part}": [{{"name": ..., {shown}}}]'
    return unknown("key", key, known)
