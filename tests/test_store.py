"""The store of results: order, names of files, groups of clips and the digest of a file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from helpers_records import IDS, SCENE_CLASSES, TARGETS, make_protocol, scene_record, scene_scores
from otoscope.identity import digest_of
from otoscope.results import Predictions, SearchSettings, Store
from otoscope.results.protocol import plain, without_defaults
from otoscope.results.sealed import check_seal, sealed_text
from otoscope.results.store import _packed, _unpacked
from otoscope.warning import OtoscopeWarning

PREDICTIONS = Predictions(IDS, scene_scores(1.0, 0), TARGETS, SCENE_CLASSES)


def test_records_are_ordered_by_encoder_data_set_probe_and_seed(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert list(store) == []
    labels = [(e, d, p, s) for e in ("a", "b") for d in ("c", "d") for p in ("mean", "linear") for s in (10, 9)]
    for encoder, dataset, probe, seed in labels:
        record = scene_record(probe, seed, 0.5, encoder)
        store.add(dataclasses.replace(record, dataset=dataset))
    assert [(r.encoder, r.dataset, r.probe, r.seed) for r in store] == sorted(labels)


def test_the_order_of_equal_labels_is_that_of_the_keys(tmp_path: Path) -> None:
    records = [scene_record("linear", 0, 0.5, protocol={"shots": shots}) for shots in range(1, 9)]
    for record in records:
        Store(tmp_path).add(record)
    keys = [record.key for record in Store(tmp_path)]
    assert keys == sorted(record.key for record in records)
    assert all(len(key) == 16 for key in keys)


def test_removing_a_record_deletes_its_files_and_may_be_repeated(tmp_path: Path) -> None:
    store, record = Store(tmp_path), scene_record("linear", 0, 0.5)
    store.remove(record)
    store.add(record, PREDICTIONS)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2
    assert record.key in store
    store.remove(record)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert record.key not in store
    store.add(record)
    store.remove(record)
    assert store.add(record, PREDICTIONS) == record.key


def test_predictions_of_a_record_of_another_store_are_not_missing(tmp_path: Path) -> None:
    assert Store(tmp_path / "empty").usable_predictions(scene_record("linear", 0, 0.5)) is None


@pytest.mark.filterwarnings("default")
def test_a_warning_names_the_training(tmp_path: Path) -> None:
    store, record = Store(tmp_path), scene_record("linear", 3, 0.5)
    key = store.add(record, PREDICTIONS)
    (tmp_path / "predictions" / f"{key}.npz").unlink()
    with pytest.warns(OtoscopeWarning) as caught:
        assert store.usable_predictions(record) is None
    assert str(caught[0].message) == (
        f"{tmp_path}/predictions/{key}.npz is missing; tiny x scenes, linear, seed 3 has no interval and is not "
        f"compared. Remove its record {tmp_path}/records/{key}.json to measure it again"
    )


def test_groups_of_new_predictions_are_known_after_they_are_added(tmp_path: Path) -> None:
    store, groups = Store(tmp_path), tuple((f"site {i % 7}",) for i in range(len(IDS)))
    old, new = scene_record("mean", 0, 0.6), scene_record("linear", 0, 0.5)
    store.add(old, PREDICTIONS)
    assert store.predictions(old).groups == ()  # type: ignore[union-attr]
    store.add(new, dataclasses.replace(PREDICTIONS, groups=groups))
    assert store.predictions(old).groups == groups  # type: ignore[union-attr]
    more = Predictions(("new", *IDS[1:]), PREDICTIONS.scores, TARGETS, SCENE_CLASSES)
    other = scene_record("knn", 0, 0.5)
    store.add(other, more)
    assert store.predictions(other).groups == (), "the groups of one clip are not known"  # type: ignore[union-attr]


@pytest.mark.parametrize("groups", [(), (("a",), (), ("b", "c")), ((), (), ("a",)), ((), (), ())])
def test_groups_are_packed_and_unpacked(groups: tuple[tuple[str, ...], ...]) -> None:
    predictions = Predictions(("x", "y", "z"), np.zeros((3, 1), np.float32), np.zeros((3, 1), np.uint8), ("c",), groups)
    arrays = _packed(predictions)
    assert _unpacked(arrays) == groups
    assert all(array.dtype != object for array in arrays.values())
    assert ("groups" in arrays) == bool(groups)


@pytest.mark.parametrize("counts", [[1, 1], [1, 2, 1, 0], [1, 0, 1], [2, -1, 2], [1, 1, 2]])
def test_counts_of_groups_that_do_not_fit_are_refused(counts: list[int]) -> None:
    arrays = {"ids": np.array(["x", "y", "z"]), "groups": np.array(["a", "b", "c"]), "group_counts": np.array(counts)}
    with pytest.raises(ValueError, match=rf"has 3 groups of {len(counts)} clips, which do not fit its {sum(counts)}"):
        _unpacked(arrays)


# Digests


def test_a_digest_covers_contents_and_context() -> None:
    contents = {"b": [1, None], "a": "x"}
    text = sealed_text(contents, "train", 3)
    assert text == json.dumps(contents | {"digest": digest_of(contents, "train", 3)}) + "\n"
    assert sealed_text(contents, indent=1).startswith('{\n "b": [\n  1,')
    check_seal(json.loads(text), "train", 3)
    for wrong, context in (
        (json.loads(text) | {"a": "y"}, ("train", 3)),
        (json.loads(text), ("test", 3)),
        (contents, ()),
    ):
        with pytest.raises(ValueError, match="its content has another digest than when it was written"):
            check_seal(wrong, *context)
    for value in ([], "x", None, 3):
        with pytest.raises(ValueError, match="it is not a JSON object"):
            check_seal(value)


# Protocols


def test_protocols_are_hashed_by_what_can_be_hashed() -> None:
    first, second = (
        make_protocol("tiny", "d", "linear", {"options": {"sizes": sizes}, "recipe": {"layers": [sizes]}})
        for sizes in ((1, 2), [1, 2])
    )
    assert (first, hash(first)) == (second, hash(second))
    assert hash(SearchSettings(kind="a", trials=1, options={"x": [1]})) == hash(SearchSettings(kind="a", trials=1))
    assert first.options == {"sizes": [1, 2]}


def test_only_fields_with_other_values_than_their_defaults_are_part_of_a_key() -> None:
    settings = SearchSettings(kind="sobol", trials=2)
    assert without_defaults(settings) == {"kind": "sobol", "trials": 2}
    assert without_defaults(dataclasses.replace(settings, options={"a": 1}, near_best=0.1)) == {
        "kind": "sobol",
        "trials": 2,
        "options": {"a": 1},
        "near_best": 0.1,
    }
    assert without_defaults([settings]) == [settings]
    assert plain({"a": (1, 2), "b": Path("x"), "c": None}) == {"a": [1, 2], "b": "x", "c": None}
