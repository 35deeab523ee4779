"""Reading records of older versions.

Version 1 had no `version`. Its `config` was free JSON: what the training reported, and under "protocol" what a suite
declared. Only here are the task and the control derived from the metrics and from the name of the encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otoscope.results.record import FINETUNE, REVISION, VERSION

_DECLARED = {"batch_size", "epochs", "trials", "search", "fold", "shots", "draw", "views", "validation_cut"}
_DECLARED |= {"otoscope", "probe", "options", "layer", "lr", "weight_decay", "lrs", "recipe"}
"""Keys of the protocol of version 1 that are fields now, or not needed any more."""
_DIGESTS = {"encoder_digest", "dataset_digest"}
_REPORTED = _DIGESTS | {"bank_layers", "layer", "dtype", "options", "lr", "weight_decay", "epochs", "batch_size"}
"""Keys of the configuration of a probe of version 1, except "protocol"."""
_WITH_NORM = {"abmilp", "coca", "ep", "linear", "linearc", "map", "mean", "mhca", "mlp", "selfattn", "simpool", "stats"}
_WITH_NORM |= {"vjepa", "wsum"}
"""Probes of version 1 with the option `norm`; its default was "none"."""
_LATER_RECIPE = {"probe_epochs": 0, "lora_rank": None, "lora_alpha": None}
"""Fields that the recipe of the first records lacked, with the values that they had in effect."""


def migrate(data: Mapping[str, Any]) -> dict[str, Any]:
    """Lift the JSON of a record to the present version.

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
    decided = _finetuning(config, declared) if finetuned else _probe(data["probe"], config, declared)
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
    kept = {name: value for name, value in data.items() if name not in ("config", "recorded")}
    used = {"lr": config.get("lr"), "weight_decay": config.get("weight_decay"), "source": data.get("recorded")}
    return kept | used | {"version": VERSION, "protocol": protocol | decided}


def _probe(label: str, config: Mapping[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the protocol that is of a probe."""
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
    """Without a suite, nothing says whether the learning rate was chosen by the user: it is taken as declared."""
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
    """The part of the protocol that is of fine-tuning."""
    recipe = _LATER_RECIPE | {key: value for key, value in config.items() if key not in _DIGESTS | {"protocol"}}
    rates = declared.get("options", {}).get("lrs") or declared.get("lrs") or []
    settings = {"settings": [{"lr": rate} for rate in rates]}
    search = {"kind": "list", "trials": len(rates), "options": settings} if len(rates) > 1 else None
    return {"probe": FINETUNE, "recipe": recipe | ({"lr": None} if search else {}), "search": search}
