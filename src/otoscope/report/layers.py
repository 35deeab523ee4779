"""Layer profiles: the score of one probe at every single layer of an encoder, and at several layers together.

A profile combines the rows of one encoder, data set and configuration of a probe that differ in their layers alone.
The layer with the best score on the validation split is marked. Choosing the layer with the best test score instead
would be a choice on the test split.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from otoscope import metrics
from otoscope.metrics.stats import Difference
from otoscope.report.rows import Row, difference, with_winners
from otoscope.report.selectivity import find_control
from otoscope.report.variants import variants, without_fold
from otoscope.results import Record

LISTED = 3
"""Profiles of up to this number of single layers stay in the tables and figures of all probes as well."""


@dataclass(frozen=True)
class LayerProfile:
    """One probe at the layers of an encoder, on one data set.

    Parameters
    ----------
    name : the probe, with the settings that distinguish it from the other profiles of this encoder and data set.
    single : the row of each single layer, in ascending order of the layers; at least two.
    together : the row that reads most layers at once; None if no row reads several.
    control : the same profile of the encoder with random weights; None if there is none.
    """

    name: str
    single: Mapping[int, Row]
    together: Row | None = None
    control: LayerProfile | None = None

    @property
    def rows(self) -> list[Row]:
        """The rows of the single layers, then that of several layers together, if there is one."""
        return [*self.single.values(), *([self.together] if self.together else [])]

    @property
    def best_layer(self) -> int | None:
        """The layer with the best validation score; the first of several. None if a row has no validation score."""
        scores = {layer: validation_score(row) for layer, row in self.single.items()}
        if None in scores.values():
            return None
        sort_key = metrics.create(next(iter(self.single.values())).metric).sort_key
        return max(scores, key=lambda layer: sort_key(scores[layer] or 0.0))

    def beyond_control(self, row: Row) -> Difference | None:
        """By how much a row of this profile is better than the same layers of the control; None without a control.

        The interval is nan if the two were measured on different clips.
        """
        if self.control is None:
            return None
        layers = _layers(row)
        same = next((other for other in self.control.rows if _layers(other) == layers), None)
        if same is None:
            return None
        return difference(row, same)


def validation_score(row: Row) -> float | None:
    """Mean of the main score on the validation split over seeds and folds; None if a record has none."""
    values = [record.validation for record in row.records if record.validation is not None]
    return float(np.mean(values)) if len(values) == len(row.records) else None


def layer_profiles(rows: Iterable[Row]) -> list[LayerProfile]:
    """Find the layer profiles among rows.

    Parameters
    ----------
    rows : rows of any encoders and data sets, as `summarise` returns them.

    Returns
    -------
    list of LayerProfile. One for every configuration of a probe that was measured at two or more single layers of an
    encoder. Controls come last.
    """
    groups: dict[tuple[tuple[str, ...], str], list[Row]] = {}
    for row in rows:
        if row.records[0].protocol.layers and not row.finetuned:
            groups.setdefault((row.pair, _configuration(row)), []).append(row)
    groups = {key: group for key, group in groups.items() if sum(len(_layers(row)) == 1 for row in group) > 1}
    profiles = []
    for pair in dict.fromkeys(pair for pair, _ in groups):
        members = [group for (other, _), group in groups.items() if other == pair]
        members.sort(key=lambda group: min(row.parameters for row in group))
        profiles += [_profile(name, group) for name, group in zip(_names(members), members, strict=True)]
    return sorted(_with_controls(profiles), key=lambda profile: profile.rows[0].control)


def without_inner_layers(rows: Sequence[Row]) -> list[Row]:
    """Leave out the rows that only a layer profile shows, and mark the best of the others.

    These are the single layers of a profile of more than `LISTED` layers, except the last layer.

    Parameters
    ----------
    rows : rows of any encoders and data sets, as `summarise` returns them.
    """
    inner = {id(row) for profile in layer_profiles(rows) for row in _inner(profile)}
    return with_winners([row for row in rows if id(row) not in inner])


def _inner(profile: LayerProfile) -> list[Row]:
    rows = list(profile.single.values())
    return rows[:-1] if len(rows) > LISTED else []


def _layers(row: Row) -> tuple[int, ...]:
    return tuple(row.records[0].protocol.layers)


def _configuration(row: Row) -> str:
    """Everything that decides a row except its layers, as text."""
    record = row.records[0]
    protocol = replace(without_fold(record.protocol), layers=())
    return json.dumps([protocol.to_json(), list(row.fold_names)], sort_keys=True)


def _names(groups: Sequence[Sequence[Row]]) -> list[str]:
    """Names of the profiles of one pair: the registered name of the probe, and the settings that differ."""
    records = [_without_layers(group[0].records[0]) for group in groups]
    names = []
    for record in records:
        same = [other for other in records if other.protocol.probe == record.protocol.probe]
        variant = variants(same)[same.index(record)]
        names.append(f"{record.protocol.probe} ({variant})" if variant else record.protocol.probe)
    return names


def _without_layers(record: Record) -> Record:
    return replace(record, protocol=replace(record.protocol, layers=()))


def _profile(name: str, rows: Sequence[Row]) -> LayerProfile:
    single = {_layers(row)[0]: row for row in rows if len(_layers(row)) == 1}
    together = max((row for row in rows if len(_layers(row)) > 1), key=lambda row: len(_layers(row)), default=None)
    return LayerProfile(name, dict(sorted(single.items())), together)


def _with_controls(profiles: Sequence[LayerProfile]) -> list[LayerProfile]:
    """Add to each profile of a trained encoder that of its control."""
    return [
        profile if profile.rows[0].control else replace(profile, control=_control_of(profile, profiles))
        for profile in profiles
    ]


def _control_of(profile: LayerProfile, profiles: Sequence[LayerProfile]) -> LayerProfile | None:
    """The profile of the same probe on the control of the encoder; None without a control."""
    control = find_control(profile.rows[0], [row for other in profiles for row in other.rows])
    return next((other for other in profiles if any(row is control for row in other.rows)), None)
