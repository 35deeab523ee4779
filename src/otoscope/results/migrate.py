"""Reading records of older versions.

Records of version 1 have no field `version`. Their `config` is JSON without a schema: the values that the training
reported and, under "protocol", those that a suite declared. They contain neither the task nor whether the encoder is a
control: both are derived here from the metrics and from the name of the encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otoscope.results.protocol import FINETUNE, REVISION
from otoscope.results.record import VERSION

_DECLARED = {"batch_size", "epochs", "trials", "search", "fold", "shots", "draw", "views", "validation_cut"}
_DECLARED |= {"otoscope", "probe", "options", "layer", "lr", "weight_decay", "lrs", "recipe"}
"""Keys of the protocol of version 1 that are fields now or no longer needed."""
_DIGESTS = {"encoder_digest", "dataset_digest"}
_REPORTED = _DIGESTS | {"bank_layers", "layer", "dtype", "options", "lr", "weight_decay", "epochs", "batch_size"}
"""Keys of the configuration of a probe of version 1, except "protocol"."""
_WITH_NORM = {"abmilp", "coca", "ep", "linear", "linearc", "map", "mean", "mhca", "mlp", "selfattn", "simpool", "stats"}
_WITH_NORM |= {"vjepa", "wsum"}
"""Probes of version 1 with the option `norm`; its default was "none"."""
_LATER_RECIPE = {"probe_epochs": 0, "lora_rank": None, "lora_alpha": None}
"""Fields that are missing in the recipes of the oldest records, with the values that those trainings used."""


def migrate(data: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the JSON of a record to the current version.

    Parameters
    ----------
    data : JSON object of a record of any version.

    Returns
    -------
    dict. JSON object of the same record in version `VERSION`; `data` itself is not changed.

    Raises
    ------
    ValueError : for a version that this otoscope does not know.
    """
    version = data.get("version", 1)
    if version == VERSION:
        return dict(data)
    if version == 1:
        return _from_version_1(data)
    raise ValueError(
        f"a record of version {version!r}, this otoscope reads versions 1 to {VERSION}; "
        "read it with the otoscope that wrote it, or a newer one"
    )


def _from_version_1(data: Mapping[str, Any]) -> dict[str, Any]:
    config = data.get("config", {})
    declared = config.get("protocol", {})
    finetuned = declared.get("probe", data["probe"]) == FINETUNE
    specific = _finetuning(config, declared) if finetuned else _probe(data["probe"], config, declared)
    protocol = {
        "encoder_digest": config.get("encoder_digest", ""),
        "dataset_digest": config.get("dataset_digest", ""),
        "task": "multi-class" if "accuracy" in data.get("metrics", {}) else "multi-label",
        "control": "random" in data["encoder"].lower(),
        "fold": declared.get("fold"),
        "shots": declared.get("shots"),
        "draw": declared.get("draw") or 0,
        "views": declared.get("views"),
        "validation_cut": declared.get("validation_cut"),
        "revision": REVISION,
    }
    unchanged = {name: value for name, value in data.items() if name not in ("config", "recorded")}
    chosen = {"lr": config.get("lr"), "weight_decay": config.get("weight_decay"), "source": data.get("recorded")}
    return unchanged | chosen | {"version": VERSION, "protocol": protocol | specific}


def _probe(label: str, config: Mapping[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the protocol that only probes have."""
    probe = declared.get("probe", label)
    options = dict(config.get("options") or declared.get("options") or {})
    unknown = {key: value for key, value in declared.items() if key not in _DECLARED}
    unknown |= {key: value for key, value in config.items() if key not in _REPORTED | {"protocol"}}
    layers, stored = config.get("layer", []), config.get("bank_layers")
    return {
        "probe": probe,
        "options": options | unknown,
        "norm": options.get("norm", "none" if probe in _WITH_NORM else None),
        "layers": layers if stored is None else [stored[index] for index in layers],
        "dtype": config.get("dtype"),
        "search": _search(declared),
        "training": _training(config, declared),
    }


def _search(declared: Mapping[str, Any]) -> dict[str, Any] | None:
    search, trials = declared.get("search"), declared.get("trials", 1)
    if not search:
        return None
    if set(search) == {"sobol"}:
        return {"kind": "sobol", "trials": trials, "options": {}}
    options = {"sobol": -(-trials // 2)} | {name: value for name, value in search.items() if name != "halving"}
    return {"kind": "tpe", "trials": trials, "options": options | search.get("halving", {})}


def _training(config: Mapping[str, Any], declared: Mapping[str, Any]) -> dict[str, Any] | None:
    """The training configuration; None for a probe without gradient training.

    A record without the declaration of a suite does not say who chose the learning rate. It counts as declared.
    """
    if "epochs" not in config:
        return None
    fixed = declared if "trials" in declared else config
    return {
        "epochs": config["epochs"],
        "batch_size": config["batch_size"],
        "lr": fixed.get("lr"),
        "weight_decay": fixed.get("weight_decay"),
    }


def _finetuning(config: Mapping[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the protocol that only fine-tuning has."""
    recipe = _LATER_RECIPE | {key: value for key, value in config.items() if key not in _DIGESTS | {"protocol"}}
    rates = declared.get("options", {}).get("lrs") or declared.get("lrs") or []
    settings = {"settings": [{"lr": rate} for rate in rates]}
    search = {"kind": "list", "trials": len(rates), "options": settings} if len(rates) > 1 else None
    return {"probe": FINETUNE, "recipe": recipe | ({"lr": None} if search else {}), "search": search}
