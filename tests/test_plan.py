"""Suites and their plans: the runs, their order and their cost."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from torch import Tensor

import otoscope.bank
from otoscope import probes
from otoscope.bank import BankIdentity, estimate_size
from otoscope.bench import plan, suites
from otoscope.bench.cost import PairSize, Views
from otoscope.bench.plan import Pair, Run, Study
from otoscope.bench.protocol import study_protocol
from otoscope.bench.resolved_pair import ResolvedPair
from otoscope.bench.specs import DatasetSpec, EncoderSpec, FinetuneSpec, ProbeSpec
from otoscope.bench.suites import Suite, SuiteError
from otoscope.registry import UnknownNameError
from otoscope.results import Protocol
from otoscope.search import SearchSpec
from otoscope.types import Tokens, TokenShape
from toys import SIZES, Ear, Tones

SIZE = PairSize(
    {"train": 100, "validation": 20, "test": 30},
    TokenShape(layers=2, freq=8, dim=192, has_cls=True, frame_rate=6.25),
    steps=64,
    parameters=10**6,
    classes=10,
    bytes=5000,
)
ADAMW = {"solver": "adamw"}
LINEAR = ProbeSpec("linear", options=ADAMW)
SUITE = Suite(
    name="toy",
    about="a toy",
    encoders=(EncoderSpec("tiny"),),
    datasets=(DatasetSpec("a"), DatasetSpec("b", shots=4)),
    probes=(LINEAR, ProbeSpec("knn"), ProbeSpec("protobin")),
    search=SearchSpec("sobol", {"trials": 3}),
    seeds=2,
    draws=2,
)
A, B = Pair("tiny", "a"), Pair("tiny", "b")


# Plan


def test_a_study_is_searched_and_then_measured() -> None:
    runs = plan.make(SUITE, {A: SIZE}).runs
    assert [(run.study.probe, run.trial, run.seed) for run in runs] == [
        *[("linear", trial, 0) for trial in range(3)],
        ("linear", None, 0),
        ("linear", None, 1),
        ("knn", None, 0),
        *[("protobin", trial, 0) for trial in range(3)],
        ("protobin", None, 0),
        ("protobin", None, 1),
    ]


@pytest.mark.parametrize("search", [None, SearchSpec("tpe", {"trials": 1})])
def test_one_trial_is_not_a_search(search: SearchSpec | None) -> None:
    runs = plan.make(dataclasses.replace(SUITE, search=search), {A: SIZE}).runs
    assert all(run.trial is None for run in runs)
    assert all(run.seconds > 0 for run in runs), "without a search, seed 0 is trained as well"


def test_the_runs_of_a_study_take_no_time_unless_it_is_given() -> None:
    study = Study(A, "linear")
    assert [run.seconds for runs in plan.runs_of(SUITE, study) for run in runs] == [0.0] * 5
    assert [run.seconds for runs in plan.runs_of(SUITE, study, 7.0) for run in runs] == [7.0, 7.0, 7.0, 0.0, 7.0]


def test_only_data_sets_with_shots_have_draws() -> None:
    studies = {run.study for run in plan.make(SUITE, {A: SIZE, B: SIZE}).runs}
    assert {(p.pair, p.shots, p.draw) for p in studies} == {(A, None, 0), (B, 4, 0), (B, 4, 1)}


def test_finished_runs_are_not_in_the_plan() -> None:
    linear = Study(A, "linear")
    done = {Run(linear, 0, 0, 123.0), Run(linear, None, 1, 123.0)}
    whole, remaining = plan.make(SUITE, {A: SIZE}), plan.make(SUITE, {A: SIZE}, finished=done)
    assert [run for run in whole.runs if run not in done] == list(remaining.runs)
    assert (whole.finished, remaining.finished) == (0, 2)
    seeds = {Run(linear, None, 0, 0), Run(linear, None, 1, 0)}
    rest = plan.make(SUITE, {A: SIZE}, finished=seeds)
    assert {run.study.probe for run in rest.runs} == {"knn", "protobin"}
    assert rest.finished == 5  # because their search is finished as well


def test_costs_are_summed_and_each_bank_is_counted_once() -> None:
    whole = plan.make(SUITE, {A: SIZE, B: SIZE})
    assert whole.bytes == 2 * SIZE.bytes
    encoding = 150 * (0.04 + 10**6 * 512 / 5e10)
    assert whole.seconds == pytest.approx(2 * encoding + sum(run.seconds for run in whole.runs))
    stored = plan.make(SUITE, {A: dataclasses.replace(SIZE, bytes=0)})
    assert (stored.bytes, stored.seconds) == (0, pytest.approx(sum(run.seconds for run in stored.runs)))


def test_a_bank_that_folds_share_is_written_once_for_all_draws() -> None:
    folds = [Pair("tiny", "b", fold) for fold in (1, 2)]
    views = {draw: Views(clips=40, bytes=700 + draw) for draw in range(3)}
    size = dataclasses.replace(SIZE, bank="bank", views=views)
    made = plan.make(SUITE, {**dict.fromkeys(folds, size), A: SIZE})
    assert {pair: (found.bytes, draws) for pair, (found, draws) in made.encoding.items()} == {
        folds[0]: (5000, {0, 1}),
        folds[1]: (0, {0, 1}),
        A: (5000, {0}),
    }
    assert made.bytes == 2 * 5000 + 2 * (700 + 701)
    encoding = sum(found.encoding_seconds(draws) for found, draws in made.encoding.values())
    assert made.seconds == pytest.approx(encoding + sum(run.seconds for run in made.runs))


def test_clips_without_a_bank_are_encoded_once_for_each_epoch_of_the_slowest_probe() -> None:
    size = dataclasses.replace(SIZE, on_the_fly=True, bytes=0)
    made = plan.make(dataclasses.replace(SUITE, epochs=10), {A: size, B: size})
    assert made.passes(A) == 2 * (10 + 3), "the trials of a search, and the second seed"
    assert made.passes(B) == 2 * made.passes(A), "two draws"
    encoding = size.pass_seconds(3 * made.passes(A))
    assert made.seconds == pytest.approx(encoding + sum(run.seconds for run in made.runs))
    kept = dataclasses.replace(made, sizes={A: dataclasses.replace(size, kept=True), B: size})
    assert (kept.passes(A), kept.passes(B)) == (1, made.passes(B))
    stored = dataclasses.replace(made, sizes=made.sizes | {B: dataclasses.replace(size, on_the_fly=False)})
    assert stored.seconds == pytest.approx(made.seconds - size.pass_seconds(made.passes(B)))


@pytest.mark.parametrize("missing", [(), (suites.Unavailable("probe", "knn", "not registered"),)])
@pytest.mark.parametrize("finished", [0, 1])
def test_a_plan_without_runs_is_impossible_if_something_is_missing(
    missing: tuple[suites.Unavailable, ...], finished: int
) -> None:
    runs = plan.make(SUITE, {A: SIZE}).runs
    assert plan.Plan(SUITE, (), finished, {}, missing).impossible is (bool(missing) and not finished)
    assert plan.Plan(SUITE, runs, finished, {A: SIZE}, missing).impossible is False


def test_the_cost_of_a_training_depends_on_probe_and_clips() -> None:
    def seconds(probe: str, *, pair: Pair = A, size: PairSize = SIZE, epochs: int = 30) -> float:
        runs = plan.make(dataclasses.replace(SUITE, epochs=epochs), {pair: size}).runs
        return next(run.seconds for run in runs if run.study.probe == probe)

    assert seconds("protobin") > 5 * seconds("linear") > 0
    assert seconds("linear", epochs=60) == pytest.approx(2 * seconds("linear"))
    assert seconds("linear", pair=B) == pytest.approx(0.4 * seconds("linear"))  # 4 shots of 10 classes
    uncut = dataclasses.replace(SIZE, clips={"train": 100, "test": 30})
    assert seconds("linear", size=uncut) == pytest.approx(0.8 * seconds("linear"))


def test_the_cost_of_a_probe_depends_on_its_options() -> None:
    def seconds(**options: int) -> float:
        suite = dataclasses.replace(SUITE, probes=(ProbeSpec("cgp", "mine", options),))
        return plan.make(suite, {A: SIZE}).runs[0].seconds

    assert seconds(prototypes=8000) > 4 * seconds(prototypes=1000)


def test_a_probe_that_cannot_be_built_is_unavailable_for_that_pair_only() -> None:
    suite = dataclasses.replace(SUITE, probes=(ProbeSpec("mhca", "mine", {"heads": 7}), LINEAR))
    wide = dataclasses.replace(SIZE, shape=dataclasses.replace(SIZE.shape, dim=70))
    result = plan.make(suite, {A: SIZE, B: wide})
    assert {(run.study.pair, run.study.probe) for run in result.runs} == {(A, "linear"), (B, "linear"), (B, "mine")}
    (item,) = result.unavailable
    assert (item.kind, item.name) == ("study", "tiny x a, mine")
    assert "heads=7 must divide the token width 192" in item.reason
    assert "missing study 'tiny x a, mine': probe 'mhca': heads=7" in str(result)


def test_a_head_of_finetuning_that_cannot_be_built_is_unavailable() -> None:
    spec = FinetuneSpec("finetune", options={"head": "mhca", "head_options": {"heads": 7}})
    (item,) = plan.make(dataclasses.replace(SUITE, probes=(spec,)), {A: SIZE}).unavailable
    assert item.name == "tiny x a, finetune"


@pytest.mark.usefixtures("isolated_registries")
def test_a_probe_whose_work_cannot_be_counted_does_not_stop_the_plan() -> None:
    @probes.register("centroids")
    class Centroids(probes.ClipProbe):
        solver = "stored"

        def forward(self, tokens: Tokens) -> Tensor:  # noqa: ARG002
            raise RuntimeError("no clips are stored")

    suite = dataclasses.replace(SUITE, probes=(ProbeSpec("centroids", "mine"),))
    assert plan.make(suite, {A: SIZE}).runs[0].seconds > 0


def test_a_measured_time_replaces_the_estimate() -> None:
    runs = plan.make(SUITE, {A: SIZE}, measured={Study(A, "linear"): 77.0}).runs
    assert {run.seconds for run in runs if run.study.probe == "linear"} == {77.0, 0.0}  # the best trial is seed 0
    assert 77.0 not in {run.seconds for run in runs if run.study.probe != "linear"}


def finetuned(**options: object) -> FinetuneSpec:
    return FinetuneSpec("finetune", options=options)


def training_time(epochs: int, probe_epochs: int = 0) -> float:
    """Seconds to decode all clips, and for three forward passes in each epoch and one for all epochs of the head."""
    return 150 * 0.04 + (3 * epochs + (probe_epochs > 0)) * 100 * 10**6 * 512 / 6.3e10


def test_epochs_of_the_head_alone_cost_one_forward_pass() -> None:
    suite = dataclasses.replace(SUITE, probes=(finetuned(epochs=3, probe_epochs=2),), seeds=1)
    (run,) = plan.make(suite, {A: SIZE}).runs
    assert run.seconds == pytest.approx(training_time(epochs=3, probe_epochs=2))


@pytest.mark.parametrize("label", ["a/b", "../a", "a\\b", "a\nb"])
def test_names_of_files_stay_in_their_folder(label: str) -> None:
    study = Study(Pair(label, label), label)
    for name in (study.file_name, Run(study, 0, 0, 0.0).file_name):
        assert Path(name).name == name
        assert not set(name) & set("/\\\n")


def test_pairs_studies_and_runs_are_described() -> None:
    folded, few = Pair("tiny", "a", 0), Study(Pair("tiny", "b", "x"), "cgp", 4, 1)
    assert [str(pair) for pair in (A, folded)] == ["tiny x a", "tiny x a, fold 0"]
    assert str(Study(A, "cgp")) == "tiny x a, cgp"
    assert str(few) == "tiny x b, fold x, cgp, 4 shots, draw 1"
    assert [str(Run(few, trial, 2, 0.0)) for trial in (0, None)] == [f"{few}, trial 0", f"{few}, seed 2"]
    assert few.file_name == "tiny-x-b-fold-x-cgp-4-shots-draw-1"
    assert Study(folded, "cgp").file_name == "tiny-x-a-fold-0-cgp"


def test_every_run_has_its_own_file() -> None:
    runs = plan.make(SUITE, {A: SIZE, B: SIZE}).runs
    assert len({run.file_name for run in runs}) == len(runs)
    linear = Study(A, "linear")
    names = [run.file_name for run in (Run(linear, 2, 0, 0.0), Run(linear, None, 1, 0.0))]
    assert names == ["tiny-x-a-linear-trial-2", "tiny-x-a-linear-seed-1"]


def test_fine_tuning_reads_no_bank() -> None:
    suite = dataclasses.replace(SUITE, probes=(finetuned(epochs=3, lrs=[1e-3, 2e-3], seeds=3), LINEAR))
    runs = [run for run in plan.make(suite, {A: SIZE}).runs if run.study.probe == "finetune"]
    assert [(run.trial, run.seed) for run in runs] == [(0, 0), (1, 0), (None, 0), (None, 1), (None, 2)]
    training = training_time(epochs=3)
    assert [run.seconds for run in runs] == pytest.approx([training, training, 0.0, training, training])
    only_finetune = plan.make(dataclasses.replace(SUITE, probes=(finetuned(),)), {A: SIZE})
    assert [(run.trial, run.seed) for run in only_finetune.runs] == [(None, 0), (None, 1)]
    assert [run.seconds for run in only_finetune.runs] == pytest.approx([training_time(epochs=30)] * 2)
    assert only_finetune.bytes == 0
    assert only_finetune.seconds == sum(run.seconds for run in only_finetune.runs)
    assert "bank not needed" in str(only_finetune)


def resolved(size: PairSize = SIZE) -> ResolvedPair:
    identity = BankIdentity.of(Ear(), Tones(), layers="all")
    return ResolvedPair(EncoderSpec("tiny"), DatasetSpec("a"), None, identity, size, Path(), "multi-label", False)


def test_the_protocol_of_fine_tuning_depends_on_the_recipe_and_not_on_the_number_of_seeds() -> None:
    def protocol(spec: FinetuneSpec, **changes: object) -> Protocol:
        suite = dataclasses.replace(SUITE, probes=(spec,), **changes)
        return study_protocol(suite, Study(A, "finetune"), resolved())

    assert (
        protocol(finetuned())
        == protocol(finetuned(seeds=4))
        == protocol(finetuned(), search=SearchSpec("sobol"), epochs=9)
    )
    assert protocol(finetuned()) == protocol(finetuned(lr=1e-3)) == protocol(finetuned(lrs=[1e-3])), (
        "one rate, however it is given"
    )
    kinds = ({}, {"lr": 2e-3}, {"lrs": [1e-3, 2e-3]}, {"epochs": 2}, {"lrs": [1e-3, 3e-3]})
    assert len({protocol(finetuned(**options)) for options in kinds}) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"epochs": 0}, "epochs"),
        ({"lr": 1e-3, "lrs": [1e-3]}, "not both"),
        ({"lrs": []}, "at least one learning rate"),
        ({"seeds": 0}, "seeds"),
        ({"head": "heda"}, "unknown head 'heda'"),
        ({"head_options": {"nrom": 1}}, "did you mean 'norm'"),
    ],
)
def test_an_invalid_recipe_is_listed_before_anything_runs(options: dict[str, object], message: str) -> None:
    minimal = {"about": "x", "encoders": ["tiny"], "datasets": ["scenes"], "probes": ["linear"]}
    suite = suites.parse("x", minimal | {"probes": [{"name": "finetune", "options": options}]})
    (item,) = suites.unavailable(suite)
    assert (item.kind, item.name) == ("probe", "finetune")
    assert message in item.reason


def test_the_plan_is_printed_as_one_page() -> None:
    item = suites.Unavailable("probe", "knn", "not registered")
    text = str(plan.make(SUITE, {A: SIZE, B: dataclasses.replace(SIZE, bytes=0)}, unavailable=[item]))
    assert "linear       3 trials + 2 seeds" in text
    assert "tiny x b: bank complete" in text
    assert "4 shots, draw 1" in text
    assert "missing probe 'knn': not registered" in text
    assert "30 runs to do, 0 done" in text
    assert "knn      " not in text


def test_the_page_has_the_number_of_runs_and_the_time_of_each_study() -> None:
    suite = dataclasses.replace(SUITE, probes=(LINEAR, ProbeSpec("knn")))
    sizes = {A: dataclasses.replace(SIZE, bytes=20_000_000), B: dataclasses.replace(SIZE, bytes=0)}
    measured = {study: 200.0 if study.shots else 10.0 for pair in sizes for study in plan.studies_of(suite, pair)}
    measured |= {study: 0.5 for study in measured if study.probe == "knn"}
    finished = plan.make(suite, {A: SIZE}).runs[:1]
    text = str(plan.make(suite, sizes, measured=measured, finished=finished))
    assert text.splitlines() == [
        "suite toy: a toy",
        "tiny x a: bank 20.0 MB to encode, 8 s",
        "  linear       2 trials + 2 seeds, 10 s each",
        "  knn          1 seed, under 1 s each",
        "tiny x b: bank complete",
        "  linear       4 shots, draw 0: 3 trials + 2 seeds, 3 min each",
        "  knn          4 shots, draw 0: 1 seed, under 1 s each",
        "  linear       4 shots, draw 1: 3 trials + 2 seeds, 3 min each",
        "  knn          4 shots, draw 1: 1 seed, under 1 s each",
        "17 runs to do, 1 done; 0.02 GB of banks to write; about 27 min (0.46 hours) on 2 cores",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.9, "under 1 s"),
        (1, "1 s"),
        (99, "99 s"),
        (100, "2 min"),
        (7199, "120 min"),
        (7200, "2.0 h"),
        (720_000, "200.0 h"),
    ],
)
def test_times_are_written_in_the_unit_that_fits(seconds: float, text: str) -> None:
    suite = dataclasses.replace(SUITE, probes=(ProbeSpec("knn"),))
    made = plan.make(suite, {A: dataclasses.replace(SIZE, bytes=0)}, measured={Study(A, "knn"): seconds})
    lines = str(made).splitlines()
    assert lines[2] == f"  knn          1 seed, {text} each"
    about = "" if seconds < 1 else "about "
    hours = f"({seconds / 3600:.2f} hours) on 2 cores"
    assert lines[3] == f"1 run to do, 0 done; 0.00 GB of banks to write; {about}{text} {hours}"


def test_protocols_of_studies_differ_and_are_equal_after_json() -> None:
    here = study_protocol(SUITE, Study(A, "linear"), resolved())
    assert Protocol.from_json(json.loads(json.dumps(here.to_json()))) == here
    uncut = dataclasses.replace(SIZE, clips={"train": 100, "test": 30})
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
                ProbeSpec("linear", options=ADAMW | {"norm": "layer"}),
                ProbeSpec("linear"),
                ProbeSpec("mean", "linear", ADAMW),
                dataclasses.replace(LINEAR, layer=0),
                dataclasses.replace(LINEAR, lr=1e-3),
                dataclasses.replace(LINEAR, resolve_head=False),
            )
        ],
    ]
    assert len({here, *others}) == 16
    for other in others:
        assert Protocol.from_json(json.loads(json.dumps(other.to_json()))) == other


@pytest.mark.parametrize("spec", [ProbeSpec("linear", "mine"), ProbeSpec("knn", "mine")])
def test_a_probe_without_gradient_training_is_run_once_and_takes_no_learning_rate(spec: ProbeSpec) -> None:
    (run,) = plan.make(dataclasses.replace(SUITE, probes=(spec,)), {A: SIZE}).runs
    assert (run.trial, run.seed) == (None, 0)
    with pytest.raises(ValueError, match="is not trained by gradient and has no learning rate"):
        dataclasses.replace(spec, lr=1e-3).check()


def test_a_probe_without_search_does_not_depend_on_the_number_of_trials() -> None:
    def protocol(trials: int) -> Protocol:
        search = SearchSpec("sobol", {"trials": trials})
        return study_protocol(dataclasses.replace(SUITE, search=search), Study(A, "knn"), resolved())

    assert protocol(3) == protocol(9)


def test_the_estimated_size_is_the_size_of_the_bank(tmp_path: Path) -> None:
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
def test_every_shipped_suite_loads_and_lists_what_is_unavailable(name: str) -> None:
    suite = suites.load(name)
    assert suite.about
    missing = suites.unavailable(suite)
    assert not [item for item in missing if item.kind == "probe"]
    if name in ("smoke", "demo"):
        assert missing == []
    assert all("`otoscope encoders get " in item.reason for item in missing)


def test_unregistered_names_are_listed_with_the_reason() -> None:
    suite = dataclasses.replace(
        SUITE,
        encoders=(EncoderSpec("nowhere"), EncoderSpec("tiny", options={"weihgts": "random"})),
        datasets=(DatasetSpec("scenes", folds=(1, 2)),),
        probes=(ProbeSpec("linear"), ProbeSpec("sonar"), ProbeSpec("cgp", "cgp-9", {"prototype": 9})),
    )
    missing = {(item.kind, item.name): item.reason for item in suites.unavailable(suite)}
    assert set(missing) == {
        ("encoder", "nowhere"),
        ("encoder", "tiny"),
        ("dataset", "scenes"),
        ("probe", "sonar"),
        ("probe", "cgp-9"),
    }
    assert "did you mean 'prototypes'" in missing["probe", "cgp-9"]
    assert "weihgts" in missing["encoder", "tiny"]
    assert "fold" in missing["dataset", "scenes"]


def test_a_suite_is_read_from_a_file(tmp_path: Path) -> None:
    minimal = {
        "about": "mine",
        "encoders": ["tiny", {"name": "tiny", "label": "other", "options": {"weights": "random"}}],
        "datasets": [{"name": "esc50", "folds": [1, 2], "shots": 8}],
        "probes": ["linear", {"name": "cgp", "label": "cgp-9", "options": {"prototypes": 9}}],
    }
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(minimal))
    suite = suites.load(path)
    assert (suite.name, [spec.label for spec in suite.encoders]) == ("mine", ["tiny", "other"])
    assert suite.datasets[0].folds == (1, 2)
    assert suite.datasets[0].options_of_fold(2) == {"fold": 2}
    assert suite.probe("cgp-9") == ProbeSpec("cgp", "cgp-9", {"prototypes": 9})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sedes": 3}, "did you mean 'seeds'"),
        ({"search": {"trials": 0}}, "at least one trial"),
        ({"search": {"kind": "tpee"}}, "did you mean 'tpe'"),
        ({"search": {"trails": 3}}, "did you mean 'trials'"),
        ({"seeds": 0}, "seeds must be a whole number >= 1, found 0"),
        ({"seeds": [0]}, r"found \[0\]"),
        ({"encoders": ["tiny", "tiny"]}, "encoder label"),
        ({"probes": []}, "probe"),
        ({"probes": ["cgp", {"name": "cgp", "options": {"prototypes": 9}}]}, "probe label"),
        ({"probes": [{"name": "cgp", "option": {}}]}, "did you mean 'options'"),
        ({"datasets": [{"name": "scenes", "fold": 1}]}, "did you mean 'folds'"),
        ({"datasets": [{"name": "scenes", "shots": 0}]}, "shots"),
    ],
)
def test_an_invalid_suite_is_refused(change: dict[str, object], message: str) -> None:
    minimal = {"about": "x", "encoders": ["tiny"], "datasets": ["scenes"], "probes": ["linear"]}
    suites.parse("x", minimal)
    with pytest.raises(SuiteError, match=message):
        suites.parse("x", minimal | change)


def test_a_suite_without_a_key_is_refused() -> None:
    with pytest.raises(SuiteError, match="missing key 'datasets'; a suite needs about, encoders, datasets and probes"):
        suites.parse("x", {"about": "x", "encoders": ["tiny"], "probes": ["linear"]})


def test_an_unknown_suite_and_an_invalid_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'smoke'"):
        suites.load("smok")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(SuiteError, match="is not a suite"):
        suites.load(tmp_path / "broken.json")
