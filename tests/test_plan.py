"""Suites as declared, and the plan: which cells, in which order, at which cost."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

import otoscope.bank
from otoscope.bank import BankIdentity, estimate_size
from otoscope.bench import plan, suites
from otoscope.bench.cost import PairSize
from otoscope.bench.plan import Pair, Run, Study
from otoscope.bench.protocol import study_protocol
from otoscope.bench.resolve import ResolvedPair
from otoscope.bench.specs import DatasetSpec, EncoderSpec, FinetuneSpec, ProbeSpec
from otoscope.bench.suites import Suite, SuiteError
from otoscope.registry import UnknownNameError
from otoscope.results import Protocol
from otoscope.search import SearchSpec
from otoscope.types import TokenShape
from toys import SIZES, Ear, Tones

SCALE = PairSize(
    {"train": 100, "validation": 20, "test": 30},
    TokenShape(layers=2, freq=8, dim=192, has_cls=True, frame_rate=6.25),
    steps=64,
    parameters=10**6,
    classes=10,
    bytes=5000,
)
SUITE = Suite(
    name="toy",
    about="a toy",
    encoders=(EncoderSpec("tiny"),),
    datasets=(DatasetSpec("a"), DatasetSpec("b", shots=4)),
    probes=(ProbeSpec("linear"), ProbeSpec("knn"), ProbeSpec("protobin")),
    search=SearchSpec("sobol", {"trials": 3}),
    seeds=2,
    draws=2,
)
A, B = Pair("tiny", "a"), Pair("tiny", "b")


# Plan


def test_a_place_is_searched_and_then_measured() -> None:
    runs = plan.make(SUITE, {A: SCALE}).runs
    assert [(c.study.probe, c.trial, c.seed) for c in runs] == [
        *[("linear", trial, 0) for trial in range(3)],
        ("linear", None, 0),
        ("linear", None, 1),
        ("knn", None, 0),
        *[("protobin", trial, 0) for trial in range(3)],
        ("protobin", None, 0),
        ("protobin", None, 1),
    ]


@pytest.mark.parametrize("search", [None, SearchSpec("tpe", {"trials": 1})])
def test_one_trial_is_no_search(search: SearchSpec | None) -> None:
    runs = plan.make(dataclasses.replace(SUITE, search=search), {A: SCALE}).runs
    assert all(run.trial is None for run in runs)


def test_draws_are_of_data_sets_with_shots() -> None:
    studies = {run.study for run in plan.make(SUITE, {A: SCALE, B: SCALE}).runs}
    assert {(p.pair, p.shots, p.draw) for p in studies} == {(A, None, 0), (B, 4, 0), (B, 4, 1)}


def test_what_is_done_is_left_out_whatever_it_cost() -> None:
    linear = Study(A, "linear")
    done = {Run(linear, 0, 0, 123.0), Run(linear, None, 1, 123.0)}
    whole, left = plan.make(SUITE, {A: SCALE}), plan.make(SUITE, {A: SCALE}, done=done)
    assert [c for c in whole.runs if c not in done] == list(left.runs)
    assert (whole.done, left.done) == (0, 2)
    seeds = {Run(linear, None, 0, 0), Run(linear, None, 1, 0)}
    rest = plan.make(SUITE, {A: SCALE}, done=seeds)
    assert {run.study.probe for run in rest.runs} == {"knn", "protobin"}
    assert rest.done == 5  # the search that led to them is over too


def test_costs_add_up_and_a_bank_is_paid_once() -> None:
    whole = plan.make(SUITE, {A: SCALE, B: SCALE})
    assert whole.bytes == 2 * SCALE.bytes
    encoding = 150 * (0.04 + 10**6 * 512 / 5e10)
    assert whole.seconds == pytest.approx(2 * encoding + sum(run.seconds for run in whole.runs))
    there = plan.make(SUITE, {A: dataclasses.replace(SCALE, bytes=0)})
    assert (there.bytes, there.seconds) == (0, pytest.approx(sum(run.seconds for run in there.runs)))


def test_a_training_costs_what_its_probe_and_clips_ask() -> None:
    def seconds(probe: str, *, pair: Pair = A, size: PairSize = SCALE, epochs: int = 30) -> float:
        runs = plan.make(dataclasses.replace(SUITE, epochs=epochs), {pair: size}).runs
        return next(run.seconds for run in runs if run.study.probe == probe)

    assert seconds("protobin") > 5 * seconds("linear") > 0
    assert seconds("linear", epochs=60) == pytest.approx(2 * seconds("linear"))
    assert seconds("linear", pair=B) == pytest.approx(0.4 * seconds("linear"))  # 4 shots of 10 classes
    uncut = dataclasses.replace(SCALE, clips={"train": 100, "test": 30})
    assert seconds("linear", size=uncut) == pytest.approx(0.8 * seconds("linear"))


def test_options_of_a_probe_count_in_its_cost() -> None:
    def seconds(**options: int) -> float:
        suite = dataclasses.replace(SUITE, probes=(ProbeSpec("cgp", "mine", options),))
        return plan.make(suite, {A: SCALE}).runs[0].seconds

    assert seconds(prototypes=8000) > 4 * seconds(prototypes=1000)


def test_a_probe_that_cannot_be_built_does_not_stop_the_plan() -> None:
    suite = dataclasses.replace(SUITE, probes=(ProbeSpec("mhca", "mine", {"heads": 7}),))
    assert plan.make(suite, {A: SCALE}).runs[0].seconds > 0


def test_a_measured_cost_goes_before_a_reckoned_one() -> None:
    runs = plan.make(SUITE, {A: SCALE}, measured={Study(A, "linear"): 77.0}).runs
    assert {c.seconds for c in runs if c.study.probe == "linear"} == {77.0, 0.0}  # the best trial is seed 0
    assert 77.0 not in {c.seconds for c in runs if c.study.probe != "linear"}


def tuned(**options: object) -> FinetuneSpec:
    return FinetuneSpec("finetune", options=options)


def test_fine_tuning_is_a_cell_that_reads_no_bank() -> None:
    suite = dataclasses.replace(SUITE, probes=(tuned(epochs=3, lrs=[1e-3, 2e-3], seeds=3), ProbeSpec("linear")))
    runs = [run for run in plan.make(suite, {A: SCALE}).runs if run.study.probe == "finetune"]
    assert [(c.trial, c.seed) for c in runs] == [(0, 0), (1, 0), (None, 0), (None, 1), (None, 2)]
    training = 150 * 0.04 + 3 * 100 * 3 * 10**6 * 512 / 6.3e10
    assert [c.seconds for c in runs] == pytest.approx([training, training, 0.0, training, training])
    alone = plan.make(dataclasses.replace(SUITE, probes=(tuned(),)), {A: SCALE})
    assert [(c.trial, c.seed) for c in alone.runs] == [(None, 0), (None, 1)]
    assert alone.bytes == 0
    assert alone.seconds == sum(run.seconds for run in alone.runs)
    assert "bank not needed" in str(alone)


def resolved(size: PairSize = SCALE) -> ResolvedPair:
    identity = BankIdentity.of(Ear(), Tones(), layers="all")
    return ResolvedPair(EncoderSpec("tiny"), DatasetSpec("a"), None, identity, size, Path(), "multi-label", False)


def test_a_recipe_decides_and_its_number_of_seeds_does_not() -> None:
    def protocol(spec: FinetuneSpec, **changes: object) -> Protocol:
        suite = dataclasses.replace(SUITE, probes=(spec,), **changes)
        return study_protocol(suite, Study(A, "finetune"), resolved())

    assert protocol(tuned()) == protocol(tuned(seeds=4)) == protocol(tuned(), search=SearchSpec("sobol"), epochs=9)
    assert protocol(tuned()) == protocol(tuned(lr=1e-3)) == protocol(tuned(lrs=[1e-3])), "one rate, however it is given"
    kinds = ({}, {"lr": 2e-3}, {"lrs": [1e-3, 2e-3]}, {"epochs": 2}, {"lrs": [1e-3, 3e-3]})
    assert len({protocol(tuned(**options)) for options in kinds}) == 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"epochs": 0}, "epochs"),
        ({"lr": 1e-3, "lrs": [1e-3]}, "not both"),
        ({"lrs": []}, "not both"),
        ({"seeds": 0}, "seeds"),
        ({"head": "heda"}, "unknown head 'heda'"),
        ({"head_options": {"nrom": 1}}, "did you mean 'norm'"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_told_before_anything_runs(options: dict[str, object], said: str) -> None:
    measured_size = {"about": "x", "encoders": ["tiny"], "datasets": ["scenes"], "probes": ["linear"]}
    suite = suites.parse("x", measured_size | {"probes": [{"name": "finetune", "options": options}]})
    (lack,) = suites.unavailable(suite)
    assert (lack.kind, lack.name) == ("probe", "finetune")
    assert said in lack.reason


def test_the_plan_reads_as_one_page() -> None:
    lack = suites.Unavailable("probe", "knn", "not registered")
    text = str(plan.make(SUITE, {A: SCALE, B: dataclasses.replace(SCALE, bytes=0)}, unavailable=[lack]))
    assert "linear       3 trials + 2 seeds" in text
    assert "tiny x b: bank there" in text
    assert "4 shots, draw 1" in text
    assert "missing probe 'knn': not registered" in text
    assert "30 cells to do, 0 done" in text
    assert "knn      " not in text


def test_protocols_tell_studies_apart_and_survive_json() -> None:
    here = study_protocol(SUITE, Study(A, "linear"), resolved())
    assert Protocol.from_json(json.loads(json.dumps(here.to_json()))) == here
    uncut = dataclasses.replace(SCALE, clips={"train": 100, "test": 30})
    few = dataclasses.replace(SUITE, datasets=(DatasetSpec("a", shots=4, views=2),))
    others = [
        study_protocol(SUITE, Study(A, "linear"), resolved(uncut)),
        study_protocol(SUITE, Study(A, "linear", 4), resolved()),
        study_protocol(SUITE, Study(A, "linear", 4, 1), resolved()),
        study_protocol(few, Study(A, "linear", 4), resolved()),
        study_protocol(SUITE, Study(Pair("tiny", "a", 2), "linear"), resolved()),
        study_protocol(SUITE, Study(A, "linear"), dataclasses.replace(resolved(), control=True)),
        *[
            study_protocol(dataclasses.replace(SUITE, **change), Study(A, "linear"), resolved())
            for change in ({"search": SearchSpec("sobol", {"trials": 9})}, {"epochs": 9}, {"batch_size": 9})
        ],
        *[
            study_protocol(dataclasses.replace(SUITE, probes=(spec,)), Study(A, "linear"), resolved())
            for spec in (
                ProbeSpec("linear", options={"norm": "layer"}),
                ProbeSpec("mean", "linear"),
                ProbeSpec("linear", layer=0),
                ProbeSpec("linear", lr=1e-3),
            )
        ],
    ]
    assert len({here, *others}) == 14
    for other in others:
        assert Protocol.from_json(json.loads(json.dumps(other.to_json()))) == other


def test_a_probe_without_search_does_not_depend_on_the_number_of_trials() -> None:
    def protocol(trials: int) -> Protocol:
        search = SearchSpec("sobol", {"trials": trials})
        return study_protocol(dataclasses.replace(SUITE, search=search), Study(A, "knn"), resolved())

    assert protocol(3) == protocol(9)


def test_an_estimate_is_the_banks_size(tmp_path: Path) -> None:
    for layers in ("last", "all"):
        guess = estimate_size(Ear(), Tones(), BankIdentity.of(Ear(), Tones(), layers=layers))
        bank = otoscope.bank.extract(Ear(), Tones(), tmp_path / layers, layers=layers, progress=False)
        assert (guess.clips, guess.identity, guess.longest) == (SIZES, bank.identity, bank.split("train").steps)
        files = sum(file.stat().st_size for file in bank.path.rglob("*.safetensors"))
        headers = sum(8 + int.from_bytes(file.read_bytes()[:8], "little") for file in bank.path.rglob("*.safetensors"))
        assert guess.bytes == files - headers
        assert bank.size == guess


# Suites


@pytest.mark.parametrize("name", suites.names())
def test_every_shipped_suite_loads_and_says_what_it_lacks(name: str) -> None:
    suite = suites.load(name)
    assert suite.about
    lacks = suites.unavailable(suite)
    assert not [lack for lack in lacks if lack.kind == "probe"]
    if name in ("smoke", "demo"):
        assert lacks == []
    assert all(lack.reason == "not registered" for lack in lacks)


def test_what_nobody_registered_is_named_with_its_reason() -> None:
    suite = dataclasses.replace(
        SUITE,
        encoders=(EncoderSpec("nowhere"), EncoderSpec("tiny", options={"weihgts": "random"})),
        datasets=(DatasetSpec("scenes", folds=(1, 2)),),
        probes=(ProbeSpec("linear"), ProbeSpec("sonar"), ProbeSpec("cgp", "cgp-9", {"prototype": 9})),
    )
    lacks = {(lack.kind, lack.name): lack.reason for lack in suites.unavailable(suite)}
    assert set(lacks) == {
        ("encoder", "nowhere"),
        ("encoder", "tiny"),
        ("dataset", "scenes"),
        ("probe", "sonar"),
        ("probe", "cgp-9"),
    }
    assert "did you mean 'prototypes'" in lacks["probe", "cgp-9"]
    assert "weihgts" in lacks["encoder", "tiny"]
    assert "fold" in lacks["dataset", "scenes"]


def test_a_suite_of_ones_own(tmp_path: Path) -> None:
    measured_size = {
        "about": "mine",
        "encoders": ["tiny", {"name": "tiny", "label": "other", "options": {"weights": "random"}}],
        "datasets": [{"name": "esc50", "folds": [1, 2], "shots": 8}],
        "probes": ["linear", {"name": "cgp", "label": "cgp-9", "options": {"prototypes": 9}}],
    }
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(measured_size))
    suite = suites.load(path)
    assert (suite.name, [spec.label for spec in suite.encoders]) == ("mine", ["tiny", "other"])
    assert suite.datasets[0].folds == (1, 2)
    assert suite.datasets[0].created_with(2) == {"fold": 2}
    assert suite.probe("cgp-9") == ProbeSpec("cgp", "cgp-9", {"prototypes": 9})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sedes": 3}, "did you mean 'seeds'"),
        ({"search": {"trials": 0}}, "at least one trial"),
        ({"search": {"kind": "tpee"}}, "did you mean 'tpe'"),
        ({"search": {"trails": 3}}, "did you mean 'trials'"),
        ({"seeds": 0}, "seeds"),
        ({"encoders": ["tiny", "tiny"]}, "encoder label"),
        ({"probes": []}, "probe"),
        ({"probes": ["cgp", {"name": "cgp", "options": {"prototypes": 9}}]}, "probe label"),
        ({"probes": [{"name": "cgp", "option": {}}]}, "did you mean 'options'"),
        ({"datasets": [{"name": "scenes", "fold": 1}]}, "did you mean 'folds'"),
        ({"datasets": [{"name": "scenes", "shots": 0}]}, "shots"),
    ],
)
def test_a_suite_with_a_slip_is_refused(change: dict[str, object], said: str) -> None:
    measured_size = {"about": "x", "encoders": ["tiny"], "datasets": ["scenes"], "probes": ["linear"]}
    suites.parse("x", measured_size)
    with pytest.raises(SuiteError, match=said):
        suites.parse("x", measured_size | change)


def test_an_unknown_suite_and_a_broken_file(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'smoke'"):
        suites.load("smok")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(SuiteError, match="no suite"):
        suites.load(tmp_path / "broken.json")
