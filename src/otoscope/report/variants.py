"""Names for several configurations of one probe. A name lists the settings that differ: "norm=layer, epochs=30"."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from otoscope.results import Protocol, Record

Settings = Mapping[str, Any]
"""Settings of a run by readable name. Settings that are None are omitted."""


def declared_settings(protocol: Protocol) -> dict[str, Any]:
    """The settings of a protocol by readable name.

    Parameters
    ----------
    protocol : protocol of a record.

    Returns
    -------
    dict. All settings except encoder, data set, fold and task. Settings that are None are omitted.

    Examples
    --------
    >>> digests = {"encoder_digest": "e", "dataset_digest": "d"}
    >>> declared_settings(Protocol(**digests, task="multi-label", probe="linear", layers=(5,)))
    {'probe': 'linear', 'layers': '5', 'revision': 1}
    """
    settings = {"probe": protocol.probe, "solver": protocol.solver, **protocol.options, "norm": protocol.norm}
    settings |= {"layers": written_layers(protocol.layers) or None, "dtype": protocol.dtype}
    settings |= {"shots": protocol.shots}
    settings |= {} if protocol.standardise == "none" else {"standardise": protocol.standardise}
    settings |= {} if protocol.shots is None else {"draw": protocol.draw}
    if protocol.views:
        low, high = protocol.views.snr_db
        settings |= {"views": protocol.views.number, "mixup p": protocol.views.p, "mixup dB": f"{low:g} to {high:g}"}
    if protocol.validation_cut:
        cut = protocol.validation_cut
        settings |= {"validation share": cut.share, "validation seed": cut.seed}
    settings |= {"folds of cross-validation": protocol.cross_validation}
    if protocol.search:
        settings |= {"search": protocol.search.kind, "trials": protocol.search.trials}
        settings |= {f"search {name}": value for name, value in protocol.search.options.items()}
        settings |= {"search near_best": protocol.search.near_best or None}
    if protocol.training:
        training = protocol.training
        settings |= {"epochs": training.epochs, "min_steps": training.min_steps or None}
        settings |= {"batch_size": training.batch_size}
        settings |= {"lr": training.lr, "weight_decay": training.weight_decay}
        settings |= {"resolve_head": training.resolve_head}
    settings |= protocol.recipe or {}
    settings |= {"code": protocol.probe_code or None, "revision": protocol.revision}
    return {name: value for name, value in settings.items() if value is not None}


def without_fold(protocol: Protocol) -> Protocol:
    """The protocol without what differs between the folds of a data set: the fold, and its digest."""
    return protocol if protocol.fold is None else replace(protocol, fold=None, dataset_digest="")


def used_settings(record: Record) -> dict[str, Any]:
    """The settings of a record, with the learning rate and the weight decay that a search chose."""
    chosen = {"lr": record.lr, "weight_decay": record.weight_decay}
    return declared_settings(record.protocol) | {name: value for name, value in chosen.items() if value is not None}


def named_configurations(records: Sequence[Record]) -> list[tuple[list[Record], str]]:
    """Group the records of one encoder and data set by configuration of a probe.

    The final runs of one study may have different learning rates and weight decays (`SearchSettings.near_best`), and
    each fold has its own search. Records with one protocol, apart from the fold, are therefore one configuration,
    unless a seed occurs twice in a fold.

    Parameters
    ----------
    records : records of one encoder and data set.

    Returns
    -------
    list of pairs. The records of a configuration, and the name that distinguishes it from other configurations of its
    probe (`variants`).
    """

    def study(r: Record) -> tuple[str, str]:
        return r.probe, json.dumps(without_fold(r.protocol).to_json(), sort_keys=True)

    def setting(r: Record) -> tuple[str, str]:
        return r.probe, json.dumps([r.lr, r.weight_decay])

    groups: list[list[Record]] = []
    for same in _grouped(records, study):
        seeds = {(r.protocol.fold, r.seed) for r in same}
        groups += [same] if len(seeds) == len(same) else _grouped(same, setting)
    named: list[tuple[list[Record], str]] = []
    for _, configurations in groupby(groups, key=lambda group: group[0].probe):
        same_probe = list(configurations)
        named += zip(same_probe, variants([group[0] for group in same_probe]), strict=True)
    return named


def _grouped(records: Sequence[Record], key: Callable[[Record], tuple[str, str]]) -> list[list[Record]]:
    return [list(group) for _, group in groupby(sorted(records, key=key), key=key)]


def variants(records: Sequence[Record]) -> list[str]:
    """Names that distinguish the configurations of one probe.

    Parameters
    ----------
    records : one record of each configuration.

    Returns
    -------
    list of str. For each record, the settings in which it differs from any other record; "" if it is the only one. The
    learning rate and weight decay that a search chose are compared only if the declared settings are equal.
    """
    settings = [declared_settings(record.protocol) for record in records]
    if any(settings.count(one) > 1 for one in settings):
        settings = [used_settings(record) for record in records]
    return [differing(one, settings) for one in settings]


def differing(settings: Settings, others: Iterable[Settings]) -> str:
    """The settings in which a configuration differs from any of the others, as text.

    >>> differing({"lr": 0.1, "epochs": 30}, [{"lr": 0.1, "epochs": 30}, {"lr": 0.2, "epochs": 30}])
    'lr=0.1'
    """
    others = list(others)
    names = [name for name in settings if any(name not in other or other[name] != settings[name] for other in others)]
    return ", ".join(f"{name}={_short(settings[name])}" for name in names)


def short_digest(digest: str) -> str:
    """A digest in eight characters: its beginning if it is a sha256, else the beginning of the sha256 of the text.

    >>> short_digest("garden-v1") == short_digest("garden-v2")
    False
    """
    if not re.fullmatch("[0-9a-f]{64}", digest):
        digest = hashlib.sha256(digest.encode()).hexdigest()
    return digest[:8]


def written_layers(layers: Sequence[int]) -> str:
    """Layers as "5", "0-11" or "0, 3, 7"; "" where a protocol names none."""
    if len(layers) > 2 and list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"{layers[0]}-{layers[-1]}"
    return ", ".join(map(str, layers))


def _short(value: Any) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 24 else f"{text[:23]}…"
