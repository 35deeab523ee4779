"""Controls: which encoders a suite measures with random weights, and which records say so."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from helpers_records import add_scenes
from helpers_suites import FINETUNED, probe_specs, run_quietly
from otoscope import encoders
from otoscope.bench import plan, suites
from otoscope.bench.controls import with_controls
from otoscope.bench.cost import PairSize
from otoscope.bench.plan import Pair
from otoscope.bench.resolve import resolve
from otoscope.bench.runner import prepare
from otoscope.bench.specs import DatasetSpec, EncoderSpec
from otoscope.bench.suites import Suite
from otoscope.report.rows import summarise
from otoscope.results import Store
from otoscope.types import TokenShape
from toys import Ear

RANDOM = {"weights": "random"}
SUITE = Suite(
    name="toy",
    about="a toy",
    encoders=(EncoderSpec("drawn"),),
    datasets=(DatasetSpec("tones"),),
    probes=probe_specs("mean"),
    epochs=1,
)


class DrawnEar(Ear):
    """`Ear` with the option `weights`, so that it has a control."""

    def __init__(self, *, weights: str = "pretrained", seed: int = 0) -> None:
        super().__init__(seed=seed + (weights == "random"))
        self.control = weights == "random"


@pytest.fixture
def toys(toy_suites: None) -> None:  # noqa: ARG001
    """The encoders `ear`, which has no control, and `drawn`, which has one."""
    encoders.register("drawn")(DrawnEar)


def linked(suite: Suite) -> dict[str, str | None]:
    """`control_of` of every encoder of the suite with its controls, by label."""
    return {spec.label: spec.control_of for spec in with_controls(suite).encoders}


def with_encoders(*specs: EncoderSpec, control: bool = True) -> Suite:
    return dataclasses.replace(SUITE, encoders=specs, control=control)


@pytest.mark.usefixtures("toys")
def test_the_control_of_every_encoder_is_added_at_the_end() -> None:
    suite = with_controls(with_encoders(EncoderSpec("drawn"), EncoderSpec("drawn", "other", {"seed": 3})))
    assert suite.encoders[2:] == (
        EncoderSpec("drawn", "drawn-random", RANDOM, control_of="drawn", added=True),
        EncoderSpec("drawn", "other-random", {"seed": 3} | RANDOM, control_of="other", added=True),
    )
    assert with_controls(suite) == suite


@pytest.mark.usefixtures("toys")
def test_a_listed_control_is_linked_and_not_added_again() -> None:
    listed = with_encoders(EncoderSpec("drawn", "noise", RANDOM), EncoderSpec("drawn"))
    assert linked(listed) == {"noise": "drawn", "drawn": None}
    assert linked(dataclasses.replace(listed, control=False)) == {"noise": "drawn", "drawn": None}
    assert not any(spec.added for spec in with_controls(listed).encoders)


@pytest.mark.usefixtures("toys")
def test_a_control_has_no_control_and_a_taken_label_gets_a_number() -> None:
    assert linked(with_encoders(EncoderSpec("drawn", options={"seed": 2} | RANDOM))) == {"drawn": None}
    taken = with_encoders(EncoderSpec("drawn"), EncoderSpec("drawn", "drawn-random", {"seed": 2} | RANDOM))
    assert linked(taken) == {"drawn": None, "drawn-random": None, "drawn-random2": "drawn"}


@pytest.mark.usefixtures("toys")
def test_no_control_is_added_where_none_is_wanted_or_possible() -> None:
    assert linked(with_encoders(EncoderSpec("drawn"), control=False)) == {"drawn": None}
    unusable = with_encoders(EncoderSpec("ear"), EncoderSpec("nowhere"), EncoderSpec("drawn", "bad", {"sed": 1}))
    assert linked(unusable) == {"ear": None, "nowhere": None, "bad": None}


@pytest.mark.usefixtures("toys")
def test_an_encoder_without_a_control_is_announced_and_measured(tmp_path: Path) -> None:
    outcome = run_quietly(with_encoders(EncoderSpec("ear")), tmp_path)
    (item,) = outcome.plan.unavailable
    assert (item.kind, item.name) == ("control", "ear")
    assert "encoder 'ear' cannot be created with random weights" in str(outcome.plan)
    assert (outcome.failures, [record.encoder for record in outcome.store]) == ((), ["ear"])


@pytest.mark.usefixtures("toys")
def test_an_encoder_that_cannot_be_created_is_listed_without_its_control(tmp_path: Path) -> None:
    class Deaf(Ear):
        def __init__(self, *, weights: str = "pretrained") -> None:  # noqa: ARG002
            raise ValueError("no front end")

    encoders.register("deaf")(Deaf)
    (item,) = prepare(with_encoders(EncoderSpec("deaf")), tmp_path).unavailable
    assert (item.name, item.reason) == ("deaf", "cannot be created: no front end")


@pytest.mark.usefixtures("toys")
def test_an_encoder_that_is_a_control_itself_is_not_announced(tmp_path: Path) -> None:
    class Noise(Ear):
        control = True

    encoders.register("noise")(Noise)
    assert prepare(with_encoders(EncoderSpec("noise")), tmp_path).unavailable == ()


@pytest.mark.usefixtures("toys")
def test_a_control_that_does_not_say_so_is_not_measured(tmp_path: Path) -> None:
    class Silent(Ear):
        def __init__(self, *, weights: str = "pretrained") -> None:
            super().__init__(seed=weights == "random")

    encoders.register("silent")(Silent)
    pairs, missing = resolve(with_controls(with_encoders(EncoderSpec("silent"))), tmp_path)
    assert [pair.encoder for pair in pairs] == ["silent"]
    assert [(item.kind, item.name) for item in missing] == [("control", "silent-random")]
    assert "does not set control = True" in missing[0].reason


@pytest.mark.usefixtures("toys")
def test_records_of_controls_name_the_encoder_and_fine_tuning_is_not_run_on_added_ones(tmp_path: Path) -> None:
    suite = dataclasses.replace(SUITE, probes=(*SUITE.probes, FINETUNED))
    runs = prepare(suite, tmp_path).runs
    assert {(run.study.pair.encoder, run.study.probe) for run in runs} == {
        ("drawn", "mean"),
        ("drawn", "finetune"),
        ("drawn-random", "mean"),
    }
    listed = dataclasses.replace(suite, encoders=(EncoderSpec("drawn"), EncoderSpec("drawn", "drawn-random", RANDOM)))
    assert ("drawn-random", "finetune") in {
        (r.study.pair.encoder, r.study.probe) for r in prepare(listed, tmp_path).runs
    }

    outcome = run_quietly(SUITE, tmp_path)
    assert {r.encoder: (r.control_of, r.protocol.control) for r in outcome.store} == {
        "drawn": (None, False),
        "drawn-random": ("drawn", True),
    }
    rows = {row.encoder: row for row in summarise(outcome.store)}
    assert rows["drawn-random"].beyond is None
    assert rows["drawn"].beyond is not None
    assert rows["drawn"].beyond.value == pytest.approx(rows["drawn"].value - rows["drawn-random"].value)
    assert prepare(SUITE, tmp_path).runs == ()
    assert prepare(dataclasses.replace(SUITE, control=False), tmp_path).finished == 1


@pytest.mark.usefixtures("toys")
def test_the_plan_shows_the_work_for_controls() -> None:
    size = PairSize({"train": 100}, TokenShape(1, 2, 12, True, 10.0), 10, 1000, 3, 10**6)
    suite = with_controls(dataclasses.replace(SUITE, seeds=2))
    text = str(plan.make(suite, {Pair("drawn", "tones"): size, Pair("drawn-random", "tones"): size}))
    assert "drawn-random x tones (control of drawn): bank 1.0 MB to encode" in text
    assert "\n1 run of these and 4 s are for encoders with random weights; --no-control leaves them out" in text
    alone = plan.make(dataclasses.replace(SUITE, control=False), {Pair("drawn", "tones"): size})
    assert "random weights" not in str(alone)


def test_control_is_a_key_of_a_suite_file() -> None:
    minimal = {"about": "x", "encoders": ["tiny"], "datasets": ["scenes"], "probes": ["linear"]}
    assert suites.parse("x", minimal).control
    assert not suites.parse("x", minimal | {"control": False}).control
    with pytest.raises(suites.SuiteError, match="control must be true or false, found 'no'"):
        suites.parse("x", minimal | {"control": "no"})
    with pytest.raises(suites.SuiteError, match="unknown key 'control_of'"):
        suites.parse("x", minimal | {"encoders": [{"name": "tiny", "control_of": "tiny"}]})


def test_the_controls_of_the_built_in_encoders() -> None:
    assert encoders.registry.get("tiny").control_options({"seed": 2}) == {"seed": 2, "weights": "random"}
    whisper = {"path": "w", "window": 10.0, "pool": 4}
    assert encoders.registry.get("whisper").control_options(whisper) == {**whisper, "weights": "random"}
    assert Ear.control_options({"seed": 1}) is None
    assert not torch.equal(DrawnEar().patch.weight, DrawnEar(**RANDOM).patch.weight)


@pytest.mark.parametrize(
    ("trained", "control", "paired"),
    [
        (("tiny", "tiny"), ("tiny-random", "tiny"), True),
        (("tiny", ""), ("tiny-random", ""), True),
        (("a", "onnx"), ("m3", "py"), False),
        (("m4", "py"), ("m3", "py"), False),
        (("m3", "py"), ("m3-random", "py"), True),
    ],
)
def test_a_control_without_a_link_must_be_of_the_same_encoder(
    tmp_path: Path, trained: tuple[str, str], control: tuple[str, str], paired: bool
) -> None:
    store = Store(tmp_path)
    add_scenes(store, "mean", 1.0, encoder=trained[0], encoder_name=trained[1])
    add_scenes(store, "mean", 0.2, encoder=control[0], encoder_name=control[1], protocol={"control": True})
    (row,) = (row for row in summarise(store, resamples=20) if not row.control)
    assert (row.beyond is not None) == paired
