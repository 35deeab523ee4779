"""Conversion of records of version 1: every field of the protocol, from every place at which version 1 declared it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from otoscope.results import Record
from otoscope.results.migrate import migrate

OLD = {"encoder": "tiny", "dataset": "scenes", "probe": "linear", "seed": 0, "parameters": 3, "train_seconds": 1.0}
OLD |= {"metric": "mAP", "value": 0.5, "metrics": {"mAP": 0.5}, "recorded": None}
SHARED = {"encoder_digest": "", "dataset_digest": "", "task": "multi-label", "control": False, "revision": 1}
SHARED |= {"fold": None, "shots": None, "draw": 0, "views": None, "validation_cut": None}
PROBE = SHARED | {"probe": "linear", "options": {}, "norm": "none", "layers": [], "dtype": None}
PROBE |= {"search": None, "training": None}
RECIPE = {"probe_epochs": 0, "lora_rank": None, "lora_alpha": None}
TUNED = SHARED | {"probe": "finetune", "recipe": RECIPE, "search": None}


def protocol_of(config: dict[str, Any], **labels: Any) -> dict[str, Any]:
    """The protocol of a record of version 1 with this configuration."""
    data = OLD | labels | {"config": config}
    before = copy.deepcopy(data)
    result = migrate(data)
    assert data == before
    Record.from_json(result)
    protocol: dict[str, Any] = result["protocol"]
    return protocol


def sobol_then_tpe(sobol: int, trials: int, **options: object) -> dict[str, object]:
    return {"search": {"kind": "tpe", "trials": trials, "options": {"sobol": sobol} | options}}


def trained(lr: float | None, weight_decay: float | None) -> dict[str, object]:
    return {"training": {"epochs": 3, "batch_size": 8, "lr": lr, "weight_decay": weight_decay}}


EPOCHS = {"epochs": 3, "batch_size": 8, "lr": 0.1, "weight_decay": 0.2}
KNOWN = {
    "otoscope": "0.1.0",
    "probe": "linear",
    "layer": 1,
    "lr": None,
    "weight_decay": None,
    "lrs": [],
    "recipe": None,
}
KNOWN |= {"batch_size": 8, "epochs": 3, "trials": 1, "search": None, "fold": None, "shots": None, "draw": 0}


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        ({}, {}),
        ({"encoder_digest": "e", "dataset_digest": "d"}, {"encoder_digest": "e", "dataset_digest": "d"}),
        ({"dtype": "int8"}, {"dtype": "int8"}),
        ({"protocol": {"fold": 2, "shots": 8, "draw": 3}}, {"fold": 2, "shots": 8, "draw": 3}),
        ({"protocol": {"validation_cut": {"share": 0.2, "seed": 0}}}, {"validation_cut": {"share": 0.2, "seed": 0}}),
        ({"layer": [0, 2], "bank_layers": [3, 5, 7]}, {"layers": [3, 7]}),
        ({"layer": [4]}, {"layers": [4]}),
        ({"options": {"norm": "layer", "k": 3}}, {"norm": "layer", "options": {"norm": "layer", "k": 3}}),
        ({"protocol": {"options": {"k": 3}}}, {"options": {"k": 3}}),
        ({"options": {"k": 4}, "protocol": {"options": {"k": 3}}}, {"options": {"k": 4}}),
        ({"protocol": {"probe": "knn"}}, {"probe": "knn", "norm": None}),
        ({"new": 1, "protocol": {"later": 2}}, {"options": {"new": 1, "later": 2}}),
        ({"protocol": KNOWN}, {}),
        (EPOCHS, trained(0.1, 0.2)),
        (EPOCHS | {"protocol": {"epochs": 9, "lr": 0.5}}, trained(0.1, 0.2)),
        (EPOCHS | {"protocol": {"trials": 2}}, trained(None, None)),
        (EPOCHS | {"protocol": {"trials": 2, "lr": 0.5, "weight_decay": 0.6}}, trained(0.5, 0.6)),
        (
            {"protocol": {"search": {"sobol": 2}, "trials": 2}},
            {"search": {"kind": "sobol", "trials": 2, "options": {}}},
        ),
        ({"protocol": {"search": {"rounds": 4}}}, sobol_then_tpe(1, 1, rounds=4)),
        ({"protocol": {"search": {"rounds": 4}, "trials": 6}}, sobol_then_tpe(3, 6, rounds=4)),
        ({"protocol": {"search": {"rounds": 4}, "trials": 7}}, sobol_then_tpe(4, 7, rounds=4)),
        ({"protocol": {"search": {"sobol": 1, "halving": {"factor": 3}}, "trials": 7}}, sobol_then_tpe(1, 7, factor=3)),
    ],
)
def test_the_protocol_of_a_probe(config: dict[str, Any], changes: dict[str, Any]) -> None:
    assert protocol_of(config) == PROBE | changes


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        ({}, {}),
        ({"encoder_digest": "e", "dataset_digest": "d"}, {"encoder_digest": "e", "dataset_digest": "d"}),
        ({"lr": 0.1, "lora_rank": 4}, {"recipe": RECIPE | {"lr": 0.1, "lora_rank": 4}}),
        ({"lr": 0.1, "protocol": {"lrs": [0.1]}}, {"recipe": RECIPE | {"lr": 0.1}}),
        (
            {"lr": 0.1, "protocol": {"lrs": [0.1, 0.2], "fold": 1}},
            {
                "fold": 1,
                "recipe": RECIPE | {"lr": None},
                "search": {"kind": "list", "trials": 2, "options": {"settings": [{"lr": 0.1}, {"lr": 0.2}]}},
            },
        ),
        (
            {"protocol": {"options": {"lrs": [1, 2, 3]}, "lrs": [4, 5]}},
            {
                "recipe": RECIPE | {"lr": None},
                "search": {"kind": "list", "trials": 3, "options": {"settings": [{"lr": 1}, {"lr": 2}, {"lr": 3}]}},
            },
        ),
    ],
)
def test_the_protocol_of_a_fine_tuning(config: dict[str, Any], changes: dict[str, Any]) -> None:
    assert protocol_of(config, probe="finetune") == TUNED | changes
    declared = config | {"protocol": config.get("protocol", {}) | {"probe": "finetune"}}
    assert protocol_of(declared, probe="lora") == TUNED | changes


def test_the_task_and_the_control_are_derived_from_metrics_and_names() -> None:
    assert protocol_of({}, metrics={"accuracy": 0.5}) == PROBE | {"task": "multi-class"}
    assert protocol_of({}, encoder="Tiny-Random") == PROBE | {"control": True}


def test_all_other_fields_of_a_record_stay() -> None:
    data = OLD | {"config": {"lr": 0.1, "weight_decay": 0.2, "options": {"k": 1}}, "recorded": "a paper"}
    expected = OLD | {"lr": 0.1, "weight_decay": 0.2, "source": "a paper", "version": 2}
    del expected["recorded"]
    assert migrate(data) == expected | {"protocol": PROBE | {"options": {"k": 1}}}
    without = {name: value for name, value in OLD.items() if name not in ("metrics", "recorded")}
    assert migrate(without) == without | {"lr": None, "weight_decay": None, "source": None, "version": 2} | {
        "protocol": PROBE
    }


def test_a_record_of_the_present_version_is_copied_and_a_later_one_is_refused() -> None:
    data = {"version": 2, "probe": "linear"}
    assert migrate(data) == data
    assert migrate(data) is not data
    for version in (0, 3, "2"):
        with pytest.raises(ValueError, match=f"version {version!r}, this otoscope reads versions 1 to 2; read it with"):
            migrate(data | {"version": version})
