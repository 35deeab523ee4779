"""Damaged files are named, and extract repairs them."""

import copy
import json
import shutil
from dataclasses import asdict
from functools import partial, reduce

import pytest

from helpers_banks import Sounds, Toy, every_kind, extract_quietly, file_contents
from otoscope import bank as banks
from otoscope.bank import manifest
from otoscope.bank._manifest_values import check_manifest
from otoscope.results.sealed import sealed_text


def break_header(data):
    return data[:8] + b"#" + data[9:]


DAMAGES = {
    "truncated": lambda data: data[:-1],
    "longer": lambda data: data + b"\0",
    "empty": lambda _: b"",
    "header": break_header,
    "absurd length": lambda data: b"\xff" * 8 + data[8:],
    "not an object": lambda _: (2).to_bytes(8, "little") + b"[]",
    "renamed tensor": lambda data: data.replace(b'"cls"', b'"clz"'),
    "another dtype": lambda data: data.replace(b'"F16"', b'"I16"'),
    "another shape": lambda data: data.replace(b'"shape":[2,1,', b'"shape":[2,2,'),
}


@every_kind
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_named_and_written_again_by_extract(tmp_path, damage, kind):
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b", **kind)
    before, shard = file_contents(bank.path), bank.path / "train" / "shard-00001.safetensors"
    shard.write_bytes(DAMAGES[damage](shard.read_bytes()))
    assert file_contents(bank.path) != before
    with pytest.raises(banks.DamagedError, match=r"train.shard-00001\.safetensors is damaged .*run extract again"):
        banks.open(bank.path)
    encoder = Toy()
    extract_quietly(encoder, Sounds(), bank.path, **kind)
    assert sum(encoder.calls) == 3 + 4 + 2  # one of each split for the size, two clips twice, what is missing
    assert file_contents(bank.path) == before


def test_a_shard_that_was_copied_to_another_place_is_damaged(tmp_path):
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b")
    shutil.copy(bank.path / "train" / "shard-00003.safetensors", bank.path / "train" / "shard-00000.safetensors")
    with pytest.raises(banks.DamagedError, match=r"shard-00000.*cls is F16 \[1, 1, 4\], expected .*\[2, 1, 4\]"):
        banks.open(bank.path)


def test_damaged_clips_are_named(tmp_path):
    bank = extract_quietly(Toy(), Sounds(sites=2), tmp_path / "b")
    file = bank.path / "train" / "clips.json"
    text = file.read_text()
    sealed = partial(sealed_text, {"ids": ["a"], "labels": [[]], "events": [[]], "groups": [[]]})
    for wrong, message in [
        (text[:-5], "is damaged"),
        ("{}", "is damaged"),
        ("[]", "is damaged"),
        (text.replace('"dog"', '"rain"', 1), "is damaged .its content has another digest"),
        (text.replace('"train-3"', '"train-9"'), "is damaged .its content has another digest"),
        (text.replace('"site 1"', '"site 0"', 1), "is damaged .its content has another digest"),
        ((bank.path / "test" / "clips.json").read_text(), "is damaged .its content has another digest"),
        (sealed(asdict(bank.identity), "test"), "is damaged .its content has another digest"),
        (sealed(asdict(bank.identity), "train"), "lists 1 clips, but the shards of this split contain 7"),
    ]:
        file.write_text(wrong)
        with pytest.raises(banks.DamagedError, match=rf"train.clips\.json {message}"):
            banks.open(bank.path).split("train")


def test_a_damaged_manifest_is_named(tmp_path):
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b")
    text = (bank.path / "manifest.json").read_text()
    for wrong in (
        "",
        "{}",
        "[]",
        '{"identity": ',
        text.replace('"rain"', '"wind"'),
        text.replace('"front_end"', '"end"'),
    ):
        (bank.path / "manifest.json").write_text(wrong)
        with pytest.raises(banks.BankError, match=r"manifest\.json is damaged|has format 3, .* reads format 3"):
            banks.open(bank.path)


def test_another_format_is_refused(tmp_path, monkeypatch):
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b")
    monkeypatch.setattr(manifest, "FORMAT", 99)
    with pytest.raises(banks.BankError, match="has format 3, this version of otoscope reads format 99"):
        banks.open(bank.path)


def test_a_folder_with_other_files_is_refused_and_not_changed(tmp_path):
    with pytest.raises(banks.BankError, match=r"no bank at .*write a bank with `extract`"):
        banks.open(tmp_path / "nowhere")
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(banks.BankError, match=r"not empty and has no manifest\.json"):
        extract_quietly(Toy(), Sounds(), tmp_path)
    with pytest.raises(banks.BankError, match=r"thesis\.txt is a file"):
        extract_quietly(Toy(), Sounds(), tmp_path / "thesis.txt")
    assert file_contents(tmp_path) == {"thesis.txt": b"years of work"}


def test_a_folder_with_hidden_files_alone_becomes_a_bank(tmp_path):
    (tmp_path / ".DS_Store").write_text("hidden")
    extract_quietly(Toy(), Sounds(), tmp_path)
    assert banks.open(tmp_path).splits == ("train", "validation", "test")
    assert (tmp_path / ".DS_Store").read_text() == "hidden"


def test_a_manifest_without_a_field_is_refused(tmp_path):
    file = extract_quietly(Toy(), Sounds(), tmp_path / "b").path / "manifest.json"
    complete = json.loads(file.read_text())
    paths = [(name,) for name in complete]
    paths += [(part, name) for part in ("identity", "task") for name in complete[part]]
    paths += [("identity", "shape", name) for name in complete["identity"]["shape"]]
    assert len(paths) > 20
    for *parents, name in paths:
        changed = copy.deepcopy(complete)
        part = changed
        for parent in parents:
            part = part[parent]
        del part[name]
        file.write_text(json.dumps(changed))
        with pytest.raises(banks.BankError, match=r"is damaged|has format"):
            banks.open(file.parent)


VALUES = [
    ("identity.splits", ["train", ""], "a name consists of 1 to 100 letters"),
    ("clips", {"train": 7, "test": 4}, r"it counts the clips of \['test', 'train'\]"),
    ("clips", {"train": 0, "validation": 3, "test": 4}, "clips of train must be a whole number above 0, found 0"),
    ("clips", {"train": 1 << 40, "validation": 3, "test": 4}, "clips of train must be a whole number above 0"),
    ("clips", {"train": 10**8, "validation": 3, "test": 4}, "more than 10,000,000 shards"),
    ("identity.dtype", "float8", "dtype 'float8' and content 'tokens' are not known"),
    ("identity.content", "mean", "dtype 'float16' and content 'mean' are not known"),
    ("identity.layers", [-1], r"layers \[-1\] are not 1 indices"),
    ("identity.layers", [True], r"layers \[True\] are not 1 indices"),
    ("identity.layers", [0, 1], r"layers \[0, 1\] are not 1 indices"),
    ("identity.shard_clips", 0, "shard_clips must be a whole number above 0, found 0"),
    ("identity.shard_clips", True, "shard_clips must be a whole number above 0, found True"),
    ("identity.shape.layers", 0, "layers must be a whole number above 0"),
    ("identity.shape.freq", 0, "freq must be a whole number above 0"),
    ("identity.shape.dim", -4, "dim must be a whole number above 0"),
    ("identity.shape.has_cls", 1, "is not valid"),
    ("identity.shape.frame_rate", 0.0, "is not valid"),
    ("identity.shape.frame_rate", float("inf"), "is not valid"),
]


@pytest.mark.parametrize(("field", "value", "message"), VALUES)
def test_values_of_a_manifest_that_no_bank_has_are_refused(tmp_path, monkeypatch, field, value, message):
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b")
    stored = json.loads((bank.path / "manifest.json").read_text())
    check_manifest(stored)
    *parents, last = field.split(".")
    reduce(dict.__getitem__, parents, stored)[last] = value
    with pytest.raises(ValueError, match=message):
        check_manifest(stored)
    monkeypatch.setattr(manifest, "check_seal", lambda _: None)  # as if it had been sealed again
    (bank.path / "manifest.json").write_text(json.dumps(stored))
    with pytest.raises(banks.BankError, match=message):
        banks.open(bank.path)


@pytest.mark.parametrize(
    ("fold", "rows", "message"),
    [
        (1, {"Test": "2"}, "'test' and 'Test' differ only in capital letters"),
        (1, {"../test": "2"}, "a name consists of 1 to 100 letters"),
        (1, {"test": "3"}, r"a fold has rows outside 0\.\.2"),
        (1, {"test": "0,-1"}, r"a fold has rows outside 0\.\.2"),
        (1, {"test": "a"}, "invalid literal"),
        (1.5, {"test": "2"}, "the name of a fold must be a number or a text, found 1.5"),
    ],
)
def test_folds_that_no_bank_has_are_refused(fold, rows, message):
    usual = {"fold": "a", "rows": {"train": "0,1", "test": "2"}}
    assert manifest._read_folds({"clips": {"all": 3}, "folds": [usual]}) == {"a": {"train": (0, 1), "test": (2,)}}
    with pytest.raises((ValueError, TypeError), match=message):
        manifest._read_folds({"clips": {"all": 3}, "folds": [usual, {"fold": fold, "rows": rows}]})
