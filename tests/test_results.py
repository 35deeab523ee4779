"""The store of records: the present version, and the migration of records that version 1 wrote."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from helpers_banks import file_contents
from helpers_records import IDS, SCENE_CLASSES, TARGETS, scene_record, scene_scores, without_digest
from otoscope.bench import recorded
from otoscope.bench.runner import prepare
from otoscope.bench.specs import DatasetSpec, EncoderSpec, FinetuneSpec, ProbeSpec
from otoscope.bench.suites import Suite
from otoscope.datasets.scenes import Scenes
from otoscope.encoders.tiny import Tiny
from otoscope.results import (
    Predictions,
    Protocol,
    Record,
    Sampling,
    SearchSettings,
    Store,
    TrainingSettings,
    ValidationCut,
    Views,
    activation_map,
)
from otoscope.results.migrate import migrate
from otoscope.results.record import VERSION
from otoscope.search import SearchSpec
from otoscope.warning import OtoscopeWarning
from toys import Ear, Folded, Tones

VERSION_1 = Path(__file__).parent / "data" / "results-version-1"
"""Records and predictions as version 1 wrote them: two suites of toys, a control, and the shipped reference."""


PROTOCOL = {"encoder_digest": "e", "dataset_digest": "d", "task": "multi-label", "probe": "linear"}


@pytest.fixture
def old(tmp_path: Path) -> Store:
    shutil.copytree(VERSION_1, tmp_path / "results")
    return Store(tmp_path / "results")


def record_of(store: Store, **labels: str) -> Record:
    (record,) = [r for r in store if all(getattr(r, name) == label for name, label in labels.items())]
    return record


# The present version


def test_a_record_is_written_and_read_without_loss(tmp_path: Path) -> None:
    record = scene_record(
        "linear",
        3,
        0.5,
        protocol={
            "options": {"sizes": (1, 2)},
            "views": Views(number=5, p=0.9, snr_db=(0.0, 5.0)),
            "validation_cut": ValidationCut(share=0.2, seed=0),
            "search": SearchSettings(kind="sobol", trials=4, options={"seeds": (1, 2)}),
            "layers": (0, 5),
            "fold": 2,
        },
        source="a paper",
    )
    store = Store(tmp_path)
    predictions = Predictions(IDS, scene_scores(1.0, 0), TARGETS, SCENE_CLASSES)
    key = store.add(record, predictions)
    (again,) = Store(tmp_path)
    assert again == record
    assert again.key == key == record.key
    kept = store.predictions(again)
    assert kept is not None
    assert (kept.ids, kept.classes) == (IDS, SCENE_CLASSES)
    np.testing.assert_array_equal(kept.scores, predictions.scores)
    with pytest.raises(FileExistsError, match="append-only"):
        store.add(record)
    store.remove(record)
    assert (list(store), store.predictions(record), key in store) == ([], None, False)


def test_every_field_that_decides_a_run_changes_the_key() -> None:
    record = scene_record("linear", 0, 0.5)
    changes = [
        {"encoder": "other"},
        {"dataset": "other"},
        {"probe": "other"},
        {"seed": 1},
        {"lr": 0.1},
        {"weight_decay": 0.1},
        *[
            {"protocol": dataclasses.replace(record.protocol, **change)}
            for change in (
                {"encoder_digest": "x"},
                {"dataset_digest": "x"},
                {"control": True},
                {"task": "multi-class"},
                {"probe": "x"},
                {"probe_code": "x"},
                {"options": {"k": 5}},
                {"solver": "exact"},
                {"norm": "layer"},
                {"layers": (1,)},
                {"dtype": "int8"},
                {"fold": 1},
                {"shots": 8},
                {"draw": 1},
                {"views": Views(number=5, p=0.9, snr_db=(0.0, 5.0))},
                {"validation_cut": ValidationCut(share=0.2, seed=0)},
                {"cross_validation": 5},
                {"search": SearchSettings(kind="sobol", trials=4)},
                {"training": TrainingSettings(epochs=1, batch_size=128)},
                {"recipe": {"epochs": 1}},
                {"standardise": "scale"},
                {"revision": 0},
            )
        ],
    ]
    assert len(changes) - 6 == len(dataclasses.fields(Protocol))
    keys = {dataclasses.replace(record, **change).key for change in [{}, *changes]}
    assert len(keys) == len(changes) + 1
    same = dataclasses.replace(record, value=0.9, machine="another", date="2030-01-01", source="a paper")
    assert same.key == record.key


def test_a_field_that_a_later_version_adds_does_not_change_the_key() -> None:
    record = scene_record("linear", 0, 0.5)
    record = dataclasses.replace(
        record, protocol=dataclasses.replace(record.protocol, training=TrainingSettings(epochs=1, batch_size=8))
    )
    later = {
        kind: dataclasses.make_dataclass(
            "Later", [("added", str, dataclasses.field(default="none"))], bases=(kind,), frozen=True, kw_only=True
        )
        for kind in (Protocol, TrainingSettings)
    }
    plain = {name: getattr(record.protocol, name) for name in record.protocol.__dataclass_fields__}
    plain["training"] = later[TrainingSettings](epochs=1, batch_size=8)
    assert dataclasses.replace(record, protocol=later[Protocol](**plain)).key == record.key
    assert dataclasses.replace(record, protocol=later[Protocol](**plain, added="some")).key != record.key


def test_the_defaults_of_a_protocol_do_not_change_because_keys_leave_them_out() -> None:
    defaults = {"shots": None, "draw": 0, "views": None, "validation_cut": None}
    assert dataclasses.asdict(Sampling()) == defaults
    protocol = Protocol(encoder_digest="e", dataset_digest="d", task="multi-label", probe="linear", revision=1)
    assert protocol.to_json() == {
        "encoder_digest": "e",
        "dataset_digest": "d",
        "task": "multi-label",
        "probe": "linear",
        "probe_code": "",
        "control": False,
        "options": {},
        "solver": None,
        "norm": None,
        "layers": [],
        "dtype": None,
        "fold": None,
        "shots": None,
        "draw": 0,
        "views": None,
        "validation_cut": None,
        "cross_validation": None,
        "search": None,
        "training": None,
        "recipe": None,
        "standardise": "none",
        "revision": 1,
    }
    training = {"epochs": 3, "batch_size": 8, "lr": None, "weight_decay": None, "resolve_head": False, "min_steps": 0}
    assert dataclasses.asdict(TrainingSettings(epochs=3, batch_size=8)) == training
    search = {"kind": "sobol", "trials": 4, "options": {}, "near_best": 0.0}
    assert dataclasses.asdict(SearchSettings(kind="sobol", trials=4)) == search
    assert dataclasses.replace(scene_record("linear", 0, 0.5), protocol=protocol).key == "a64a703319a82dc6"


def test_records_and_protocols_cannot_be_changed() -> None:
    record = scene_record("linear", 0, 0.5)
    parts = Views(number=5, p=0.9, snr_db=(0.0, 5.0)), ValidationCut(share=0.2, seed=0)
    parts += SearchSettings(kind="sobol", trials=4), TrainingSettings(epochs=1, batch_size=8)
    for value in (record, record.protocol, *parts):
        for field in dataclasses.fields(value):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(value, field.name, None)
    assert Views(**dataclasses.asdict(parts[0]) | {"snr_db": [0.0, 5.0]}) == parts[0]
    with pytest.raises(TypeError, match="positional"):
        TrainingSettings(1, 8)  # type: ignore[misc]


def test_groups_are_stored_and_records_without_groups_get_those_of_the_same_clips(tmp_path: Path) -> None:
    store, groups = Store(tmp_path), tuple((f"site {i % 7}", *["tape"] * (i % 2)) for i in range(len(IDS)))
    grouped = Predictions(IDS, scene_scores(0.5, 0), TARGETS, SCENE_CLASSES, groups)
    plain = Predictions(IDS[::-1], scene_scores(0.6, 1), TARGETS[::-1], SCENE_CLASSES)
    old, new = scene_record("mean", 0, 0.6), scene_record("linear", 0, 0.5)
    store.add(old, plain)
    before = store.predictions(old)
    assert before is not None
    assert before.groups == ()
    store.add(new, grouped)
    for record, expected in ((new, groups), (old, groups[::-1])):
        read = Store(tmp_path).predictions(record)
        assert read is not None
        assert read.groups == expected
    other = dataclasses.replace(old.protocol, dataset_digest="another")
    store.add(dataclasses.replace(old, protocol=other), plain)
    apart = store.predictions(dataclasses.replace(old, protocol=other))
    assert apart is not None
    assert apart.groups == ()
    with pytest.raises(ValueError, match="need the groups of 90 clips or none, found 3"):
        Predictions(IDS, scene_scores(0.5, 0), TARGETS, SCENE_CLASSES, groups[:3])


def test_scores_and_targets_have_a_row_for_each_clip_and_a_column_for_each_class() -> None:
    scores, targets = np.zeros((2, 3), np.float32), np.zeros((2, 3), np.uint8)
    Predictions(("a", "b"), scores, targets, SCENE_CLASSES)
    for wrong in (scores[:1], scores[:, :2], scores[0]):
        for parts in ((wrong, targets), (scores, wrong.astype(np.uint8))):
            shapes = re.escape(" and ".join(str(list(part.shape)) for part in parts))
            with pytest.raises(ValueError, match=rf"2 clips and 3 classes need .* \[2, 3\], found {shapes}"):
                Predictions(("a", "b"), *parts, SCENE_CLASSES)


def test_files_under_another_name_than_the_key_are_found_with_their_predictions(tmp_path: Path) -> None:
    store, record = Store(tmp_path), scene_record("linear", 0, 0.5)
    key = store.add(record, Predictions(IDS, scene_scores(0.5, 0), TARGETS, SCENE_CLASSES))
    for folder, ending in (("records", "json"), ("predictions", "npz")):
        (tmp_path / folder / f"{key}.{ending}").rename(tmp_path / folder / f"old.{ending}")
    again = Store(tmp_path)
    assert list(again) == [record]
    assert again.predictions(record) is not None
    with pytest.raises(FileExistsError, match="append-only"):
        again.add(record)


def test_a_refused_record_changes_no_file(tmp_path: Path) -> None:
    store, record = Store(tmp_path), scene_record("linear", 0, 0.5)
    store.add(record, Predictions(IDS, scene_scores(0.5, 0), TARGETS, SCENE_CLASSES))
    before = file_contents(tmp_path)
    other = dataclasses.replace(record, value=0.9, machine="another")
    with pytest.raises(FileExistsError, match=r"append-only: remove the record"):
        store.add(other, Predictions(IDS, scene_scores(0.9, 1), TARGETS, SCENE_CLASSES))
    assert file_contents(tmp_path) == before
    assert [r.value for r in Store(tmp_path)] == [0.5]


class _Payload:
    """An object that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return pytest.fail, ("a predictions file was unpickled",)


def test_objects_in_predictions_are_neither_written_nor_read(tmp_path: Path) -> None:
    store, record = Store(tmp_path), scene_record("linear", 0, 0.5)
    objects = Predictions(IDS, scene_scores(0.5, 0), TARGETS, (*SCENE_CLASSES[:2], None))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="allow_pickle=False"):
        store.add(record, objects)
    assert file_contents(tmp_path) == {}
    key = store.add(record, Predictions(IDS, scene_scores(0.5, 0), TARGETS, SCENE_CLASSES))
    path = tmp_path / "predictions" / f"{key}.npz"
    with np.load(path) as arrays:
        kept = dict(arrays)
    np.savez_compressed(path, **kept | {"ids": np.array([_Payload()] * len(IDS), dtype=object)})
    with pytest.raises(ValueError, match="is damaged: array ids has the dtype object"):
        Store(tmp_path).predictions(record)
    with pytest.raises(ValueError, match="not an activation map"):
        activation_map.load(path)


@pytest.mark.parametrize("part", ["views", "validation_cut", "search", "training"])
def test_an_unknown_field_in_a_part_of_the_protocol_is_named(tmp_path: Path, part: str) -> None:
    parts = {
        "views": Views(number=5, p=0.9, snr_db=(0.0, 5.0)),
        "validation_cut": ValidationCut(share=0.2, seed=0),
        "search": SearchSettings(kind="sobol", trials=4),
        "training": TrainingSettings(epochs=1, batch_size=8),
    }
    store = Store(tmp_path)
    key = store.add(scene_record("linear", 0, 0.5, protocol={part: parts[part]}))
    path = tmp_path / "records" / f"{key}.json"
    data = without_digest(path)
    data["protocol"][part]["later"] = 1
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=rf"{key}.*a {part} with unknown fields \['later'\]"):
        list(store)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 3}, r"version 3.*reads versions 1 to 2"),
        ({"surprise": 1}, r"unknown fields \['surprise'\]"),
        ({"coverage": {"test": {"used": 1, "listed": 2, "later": 3}}}, r"a coverage with unknown fields \['later'\]"),
        ({"coverage": {"test": {"used": 1, "listed": "2"}}}, "listed is '2', which has the wrong type"),
        ({"protocol": PROTOCOL | {"shots": "8"}}, "shots is '8', which has the wrong type"),
        (
            {"protocol": PROTOCOL | {"search": {"kind": "sobol", "trials": "8"}}},
            "trials is '8', which has the wrong type",
        ),
        ({"protocol": {"fold": 1, "holdout": 2}}, r"unknown fields \['holdout'\]"),
        ({"protocol": {"fold": 1}}, "encoder_digest"),
    ],
)
def test_a_record_that_cannot_be_read_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    store = Store(tmp_path)
    key = store.add(scene_record("linear", 0, 0.5))
    path = tmp_path / "records" / f"{key}.json"
    path.write_text(json.dumps(without_digest(path) | change))
    with pytest.raises(ValueError, match=f"(?s){key}.*{message}"):
        list(store)


# Version 1


def test_version_1_is_read_with_its_predictions(old: Store) -> None:
    files = {path.stem: json.loads(path.read_text()) for path in (old.path / "records").iterdir()}
    records = list(old)
    assert len(records) == len(files) == 12
    for record in records:
        (stem,) = [
            stem
            for stem, data in files.items()
            if all(data[name] == getattr(record, name) for name in ("encoder", "dataset", "probe", "date", "value"))
        ]
        data = files[stem]
        assert (record.metrics, record.machine, record.versions) == (data["metrics"], data["machine"], data["versions"])
        assert (record.lr, record.source) == (data["config"].get("lr"), data["recorded"])
        assert record.key in old
        predictions = old.predictions(record)
        if not (old.path / "predictions" / f"{stem}.npz").exists():
            assert predictions is None
            continue
        assert predictions is not None
        with np.load(old.path / "predictions" / f"{stem}.npz") as arrays:
            np.testing.assert_array_equal(predictions.scores, arrays["scores"])
        with pytest.raises(FileExistsError):
            old.add(record, predictions)


def test_a_record_of_version_1_is_the_same_in_the_present_version(old: Store, tmp_path: Path) -> None:
    new = Store(tmp_path / "new")
    for record in old:
        new.add(record, old.predictions(record))
    assert list(new) == list(old)
    assert {path.stem for path in (new.path / "records").iterdir()} == {record.key for record in old}
    data = json.loads(next((new.path / "records").iterdir()).read_text())
    assert migrate(data) == data
    assert data["version"] == VERSION


def test_a_record_of_version_1_can_be_removed(old: Store) -> None:
    record = record_of(old, dataset="tones", probe="linear")
    old.remove(record)
    assert record not in list(old)
    assert len(list((old.path / "records").iterdir())) == 11
    assert len(list((old.path / "predictions").iterdir())) == 10


def test_fields_that_version_1_derived_from_names_and_metrics_are_filled(old: Store) -> None:
    assert {r.encoder for r in old if r.protocol.control} == {"tiny-random"}
    assert {r.dataset for r in old if r.protocol.task == "multi-class"} == {"folded"}
    assert {r.probe for r in old if r.protocol.finetuned} == {"finetune", "lora"}
    probe = record_of(old, dataset="folded", probe="mean-layer").protocol
    assert (probe.probe, probe.options, probe.norm, probe.layers) == ("mean", {"norm": "layer"}, "layer", (0,))
    assert record_of(old, dataset="folded", probe="linear").protocol.norm == "none"
    assert (probe.fold, probe.shots, probe.draw, probe.views) == (1, 3, 0, None)
    assert probe.validation_cut == ValidationCut(share=0.2, seed=0)
    views = record_of(old, dataset="tones", probe="knn").protocol
    assert views.views == Views(number=2, p=0.9, snr_db=(0.0, 5.0))
    assert views.training is views.search is views.norm is None
    fixed = record_of(old, dataset="tones", probe="slow").protocol
    assert (fixed.probe, fixed.search) == ("protobin", None)
    assert fixed.training == TrainingSettings(epochs=1, batch_size=16, lr=0.01)
    control = record_of(old, encoder="tiny-random").protocol
    assert control.search == SearchSettings(kind="sobol", trials=2)
    tuned = record_of(old, dataset="tones", probe="lora")
    assert tuned.lr == 0.01
    assert tuned.protocol.recipe is not None
    assert (tuned.protocol.recipe["lr"], tuned.protocol.recipe["epochs"]) == (None, 1)
    rates = [{"lr": 0.001}, {"lr": 0.01}]
    assert tuned.protocol.search == SearchSettings(kind="list", trials=2, options={"settings": rates})


def test_without_a_suite_the_learning_rate_of_version_1_distinguishes_configurations() -> None:
    path = next(path for path in (VERSION_1 / "records").iterdir() if "protobin" in path.read_text())
    data = json.loads(path.read_text())
    del data["config"]["protocol"]
    protocols = []
    for lr in (0.1, 0.2):
        data["config"] |= {"lr": lr}
        protocols.append(Record.from_json(migrate(data)).protocol)
    assert [protocol.training and protocol.training.lr for protocol in protocols] == [0.1, 0.2]
    assert protocols[0].fold is protocols[0].shots is None


def test_draws_and_rates_of_version_1_are_read_wherever_they_were_declared() -> None:
    files = [json.loads(path.read_text()) for path in (VERSION_1 / "records").iterdir()]
    tuned = next(data for data in files if data["probe"] == "lora")
    declared = tuned["config"]["protocol"]
    declared["lrs"] = declared.get("options", {}).pop("lrs")
    rates = [{"lr": rate} for rate in declared["lrs"]]
    assert len(rates) > 1
    settings = {"settings": rates}
    expected = SearchSettings(kind="list", trials=len(rates), options=settings)
    assert Record.from_json(migrate(tuned)).protocol.search == expected
    few = next(data for data in files if data["config"].get("protocol", {}).get("shots"))
    for draw, read in ((3, 3), (None, 0)):
        few["config"]["protocol"]["draw"] = draw
        assert Record.from_json(migrate(few)).protocol.draw == read


@pytest.mark.usefixtures("toy_suites")
def test_a_suite_reuses_results_of_version_1_whose_identities_are_known(old: Store) -> None:
    suite = Suite(
        name="toy",
        about="the suite that was measured with version 1",
        encoders=(EncoderSpec("ear"),),
        datasets=(DatasetSpec("folded", folds=(1,), shots=3), DatasetSpec("tones", shots=4, views=2)),
        probes=(
            ProbeSpec("linear"),
            ProbeSpec("mean", "mean-layer", {"norm": "layer"}, layer=0),
            ProbeSpec("knn"),
            ProbeSpec("protobin", "slow", lr=0.01, resolve_head=False),
            FinetuneSpec("finetune", "lora", {"epochs": 1, "batch_size": 24, "lrs": [1e-3, 1e-2], "seeds": 1}),
        ),
        search=SearchSpec("tpe", {"trials": 2, "sobol": 1}),
        epochs=1,
        batch_size=16,
        standardise=False,
        control=False,
    )
    assert prepare(suite, old.path.parent).finished == 0  # version 1 did not store options and revisions
    identities = {Ear().digest: Ear(), "tones-1": Tones(), "folded-1": Folded(fold=1)}
    for file in (old.path / "records").iterdir():
        text = file.read_text()
        for digest, named in identities.items():
            text = text.replace(f'"{digest}"', f'"{named.identity_digest}"')
        file.write_text(text)
    runs = prepare(suite, old.path.parent).runs
    assert {run.study.probe for run in runs} == {"linear", "mean-layer"}  # solved exactly now
    assert prepare(dataclasses.replace(suite, probes=suite.probes[2:]), old.path.parent).runs == ()
    assert len(prepare(dataclasses.replace(suite, epochs=2), old.path.parent).runs) > len(runs)


def test_the_shipped_reference_belongs_to_the_encoder_and_the_data_set_of_the_package() -> None:
    (shipped,) = Store(recorded.SHIPPED)
    assert shipped.protocol.encoder_digest == Tiny().identity_digest
    assert shipped.protocol.dataset_digest == Scenes().identity_digest
    assert shipped.lr in (0.002, 0.004)
    assert shipped.epochs == 30
    predictions = Store(recorded.SHIPPED).predictions(shipped)
    assert predictions is not None
    assert predictions.ids == tuple(clip.id for clip in Scenes().clips("test"))
    assert predictions.scores.shape == (300, 36)


# Damage


def simple_store(folder: Path) -> tuple[Store, Path, Path]:
    """A store with one record and its predictions, and their files."""
    store = Store(folder)
    key = store.add(scene_record("linear", 0, 0.5), Predictions(IDS, scene_scores(1.0, 0), TARGETS, SCENE_CLASSES))
    return store, folder / "records" / f"{key}.json", folder / "predictions" / f"{key}.npz"


def test_a_record_of_which_any_value_was_changed_is_refused_in_one_line(tmp_path: Path) -> None:
    store, file, _ = simple_store(tmp_path)
    written = file.read_text()
    values = json.loads(written)
    changes = {"seed": 1, "value": 0.25, "machine": "other", "epochs": 3, "source": "a paper", "predictions": None}
    for name, value in changes.items():
        assert values[name] != value
        file.write_text(json.dumps(values | {name: value}))
        with pytest.raises(ValueError, match=f"^{file} cannot be read as a record: .* edited or damaged; delete it"):
            list(store)
    file.write_text(json.dumps(values, indent=4))
    assert len(list(store)) == 1, "the layout of a file does not count"


def test_a_record_without_a_digest_is_read(tmp_path: Path) -> None:
    store, file, _ = simple_store(tmp_path)
    (record,) = store
    file.write_text(json.dumps(without_digest(file)))
    assert list(Store(tmp_path)) == [record]
    assert store.predictions(record) is not None


@pytest.mark.parametrize(
    "arrays", [(), ("scores", "targets", "classes"), ("ids", "scores", "targets", "classes", "more")]
)
def test_a_file_with_other_arrays_is_refused(arrays: tuple[str, ...], tmp_path: Path) -> None:
    store, _, file = simple_store(tmp_path)
    np.savez(file, **dict.fromkeys(arrays, np.zeros(3)))  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=rf"is damaged: it has the arrays {re.escape(str(sorted(arrays)))}, expected \['cl"
    ):
        store.predictions(next(iter(store)))


def test_the_predictions_of_another_record_are_refused(tmp_path: Path) -> None:
    store, _, file = simple_store(tmp_path)
    other = store.add(scene_record("linear", 1, 0.5), Predictions(IDS, scene_scores(2.0, 1), TARGETS, SCENE_CLASSES))
    shutil.copy(file.with_name(f"{other}.npz"), file)
    first, second = store
    assert store.predictions(second) is not None
    with pytest.raises(ValueError, match=r"is damaged: its digest was [0-9a-f]{12}\.\.\. when it was written"):
        store.predictions(first)


@pytest.mark.parametrize("kind", ["damaged", "missing"])
def test_unusable_predictions_are_skipped_with_a_warning_that_names_the_file(tmp_path: Path, kind: str) -> None:
    store, record_file, file = simple_store(tmp_path)
    store.add(scene_record("linear", 1, 0.5), Predictions(IDS, scene_scores(1.0, 1), TARGETS, SCENE_CLASSES))
    file.unlink() if kind == "missing" else file.write_bytes(file.read_bytes()[:-40])
    first, second = store
    with pytest.warns(OtoscopeWarning, match=f"^{file} is {kind}.* Remove its record {record_file}") as caught:
        assert store.usable_predictions(first) is None
    assert len(caught) == 1
    assert store.usable_predictions(second) is not None


def test_a_record_that_was_stored_without_predictions_has_no_warning(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(scene_record("linear", 0, 0.5))
    (record,) = store
    assert store.usable_predictions(record) is None


def test_damaged_groups_of_other_records_do_not_stop_a_reader(tmp_path: Path) -> None:
    store, _, file = simple_store(tmp_path)
    store.add(scene_record("linear", 1, 0.5), Predictions(IDS, scene_scores(1.0, 1), TARGETS, SCENE_CLASSES))
    file.write_bytes(b"")
    assert store.predictions(list(store)[1]) is not None


# JSON without NaN


def refuse(constant: str) -> float:
    raise AssertionError(f"{constant} is no JSON")


def test_an_undefined_metric_is_null_in_a_file_and_nan_in_a_record(tmp_path: Path) -> None:
    store = Store(tmp_path)
    undefined = dataclasses.replace(scene_record("linear", 0, math.nan), metrics={"mAP": math.nan, "F1": 0.5})
    store.add(undefined)
    (file,) = (tmp_path / "records").glob("*.json")
    stored = json.loads(file.read_text(), parse_constant=refuse)
    assert (stored["value"], stored["metrics"]) == (None, {"mAP": None, "F1": 0.5})
    (record,) = store
    assert math.isnan(record.value)
    assert math.isnan(record.metrics["mAP"])
    assert record.metrics["F1"] == 0.5


def test_a_record_in_which_an_older_version_wrote_nan_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(dataclasses.replace(scene_record("linear", 0, 0.5), metrics={"mAP": 0.5, "AUROC": math.nan}))
    (file,) = (tmp_path / "records").glob("*.json")
    file.write_text(json.dumps(without_digest(file)).replace('"AUROC": null', '"AUROC": NaN'))
    assert "NaN" in file.read_text()
    (record,) = store
    assert math.isnan(record.metrics["AUROC"])
