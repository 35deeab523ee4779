"""The typed result of a final run: what was measured, under which protocol, and the prediction for every clip.

Training writes a `Record`, and reports read it. Everything that a report needs to know about a run is a field of its
`Protocol`; reports derive nothing from names or from the set of metrics.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from otoscope.files import json_number
from otoscope.results.convergence import Reasons
from otoscope.results.coverage import Coverage
from otoscope.results.protocol import Protocol, check_fields, plain, without_defaults

VERSION = 2
"""Version of a record's JSON. Older versions are read through `otoscope.results.migrate`."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """The result of one final run: an encoder, a data set, a probe and a seed, measured on the held-out split.

    Parameters
    ----------
    encoder, dataset, probe : labels by which results are listed.
    seed : training seed.
    protocol : everything else that decides the run.
    epochs : number of epochs that were trained; None for a probe without gradient training and in older records.
    lr, weight_decay : learning rate and weight decay of the training; None for a probe without gradient training.
    metric : name of the main score; `value` is `metrics[metric]`, a fraction.
    metrics : every metric of the task, as fractions.
    parameters : number of trained parameters.
    train_seconds : wall-clock time of the training.
    validation : main score on the validation split, a fraction; None in records that are older than this field.
    machine, date, versions : where, when (ISO 8601, UTC) and with which package versions it was measured.
    source : origin of the value, as a sentence; None if this user measured it.
    control_of : for an encoder with random weights, the label of the trained encoder whose control it is; None for
        other encoders, and in records that do not say.
    not_converged : reasons why the training has not converged (`otoscope.results.convergence`); empty if it has
        converged, None if that is not known, as for records of older versions.
    encoder_name : registered name of the encoder, whatever its label is; "" in records that are older than this field.
    coverage : the part of each split of the source that was used, under "all" where the source has no splits
        (`Dataset.coverage`); empty where it is not known.
    """

    encoder: str
    dataset: str
    probe: str
    seed: int
    protocol: Protocol
    metric: str
    value: float
    parameters: int
    train_seconds: float
    epochs: int | None = None
    validation: float | None = None
    lr: float | None = None
    weight_decay: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    machine: str = ""
    date: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None
    control_of: str | None = None
    not_converged: Reasons | None = None
    encoder_name: str = ""
    coverage: Mapping[str, Coverage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.not_converged is not None:
            object.__setattr__(self, "not_converged", tuple(self.not_converged))

    @property
    def key(self) -> str:
        """Address of the record: a digest of labels, seed, protocol, learning rate and weight decay.

        Fields of the protocol that have their default are left out, so that a later version may add fields. The default
        of a field must therefore never change. `revision` always counts.
        """
        names = ("encoder", "dataset", "probe", "seed", "lr", "weight_decay")
        identity = {name: getattr(self, name) for name in names} | {"revision": self.protocol.revision}
        identity |= {"protocol": plain(without_defaults(self.protocol))}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """The record as plain values, with its `version`; undefined metrics are nan, and null in a file."""
        return {"version": VERSION} | asdict(self) | {"protocol": self.protocol.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """The record that `to_json` wrote, in this version; `otoscope.results.migrate.migrate` converts older ones.

        Raises
        ------
        ValueError : for another version, or a field that this version does not know.
        """
        if data.get("version") != VERSION:
            raise ValueError(f"a record of version {data.get('version')!r}; this otoscope reads version {VERSION}")
        given = {name: value for name, value in data.items() if name != "version"}
        check_fields("record", given, cls)
        given["value"] = json_number(given["value"])
        given["metrics"] = {name: json_number(value) for name, value in given.get("metrics", {}).items()}
        for coverage in given.get("coverage", {}).values():
            check_fields("coverage", coverage, Coverage)
        given["coverage"] = {split: Coverage(**part) for split, part in given.get("coverage", {}).items()}
        return cls(**given | {"protocol": Protocol.from_json(given["protocol"])})


@dataclass(frozen=True)
class Predictions:
    """Predictions for every clip of the held-out split.

    Parameters
    ----------
    ids : clip ids, n of them.
    scores : logits, float32 [n, C].
    targets : multi-hot labels, uint8 [n, C].
    classes : class names, C of them.
    groups : the groups of each clip (`Clip.groups`), n tuples; empty where none are stored.

    Raises
    ------
    ValueError : when the number of clips or classes differs between the fields.
    """

    ids: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    targets: npt.NDArray[np.uint8]
    classes: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        n, c = len(self.ids), len(self.classes)
        if self.scores.shape != (n, c) or self.targets.shape != (n, c):
            raise ValueError(
                f"predictions of {n} clips and {c} classes need scores and targets [{n}, {c}], "
                f"found {list(self.scores.shape)} and {list(self.targets.shape)}"
            )
        if self.groups and len(self.groups) != n:
            raise ValueError(f"predictions of {n} clips need the groups of {n} clips or none, found {len(self.groups)}")
