"""The identity of a bank: another bank in the same folder is refused; the manifest records it."""

import importlib.metadata
import json
from dataclasses import fields, replace

import pytest
import torch

from helpers_banks import Sounds, Toy, extract_quietly, file_contents, subclass_with
from otoscope import bank as banks
from otoscope.bank import identity, manifest
from otoscope.registry import UnknownNameError


def with_other_weights():
    encoder = Toy()
    with torch.no_grad():
        encoder.weight += 0.001
    return encoder


OTHERS = {
    "encoder": lambda _: (subclass_with(Toy, name="toy2")(), Sounds(), {}),
    "encoder_options": lambda _: (Toy(pad_to=80), Sounds(), {}),
    "encoder_code": lambda _: (subclass_with(Toy, revision=2)(), Sounds(), {}),
    "encoder_digest": lambda _: (with_other_weights(), Sounds(), {}),
    "front_end": lambda _: (subclass_with(Toy, front_end_id="blocks-11")(), Sounds(), {}),
    "dataset": lambda _: (Toy(), subclass_with(Sounds, name="sounds2")(), {}),
    "dataset_options": lambda _: (Toy(), Sounds(sites=2), {}),
    "dataset_code": lambda _: (Toy(), subclass_with(Sounds, revision=2)(), {}),
    "dataset_digest": lambda _: (Toy(), subclass_with(Sounds, digest="sounds-2")(), {}),
    "splits": lambda _: (Toy(), Sounds(), {"splits": ["train", "test"]}),
    "layers": lambda _: (Toy(), Sounds(), {"layers": [0]}),
    "content": lambda _: (Toy(), Sounds(), {"content": "pooled"}),
    "dtype": lambda _: (Toy(), Sounds(), {"dtype": "bfloat16"}),
    "shape": lambda _: (with_shape(frame_rate=11), Sounds(), {}),
    "shard_clips": lambda _: (Toy(), Sounds(), {"shard_clips": 3}),
    "format": lambda patch: patch.setattr(identity, "FORMAT", 99) or (Toy(), Sounds(), {}),
}


WORDS = {
    "encoder_code": "\n  encoder_code: the code of the encoder has another revision\n",
    "encoder_digest": "\n  encoder_digest: the encoder has other weights, options or code\n",
    "dataset_code": "\n  dataset_code: the code of the data set has another revision\n",
    "dataset_digest": "\n  the data set has changed since the bank was written: the content of its audio files",
}
"""What the message says of fields whose values are digests."""


def with_shape(**changes):
    encoder = Toy()
    encoder.shape = replace(encoder.shape, **changes)
    return encoder


def test_every_field_of_the_identity_is_tested():
    assert set(OTHERS) == {field.name for field in fields(banks.BankIdentity)}


@pytest.mark.parametrize("field", OTHERS)
def test_a_bank_with_another_identity_is_refused_and_not_changed(tmp_path, monkeypatch, field):
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b")
    before = file_contents(bank.path)
    encoder, data, options = OTHERS[field](monkeypatch)
    with pytest.raises(banks.MismatchError, match=WORDS.get(field, rf"\n  {field}: requested .*, stored ")) as caught:
        extract_quietly(encoder, data, bank.path, **options)
    assert len(str(caught.value).splitlines()) == 3  # the bank, the one field, what to do
    assert file_contents(bank.path) == before
    assert encoder.calls == []


@pytest.mark.parametrize(
    ("encoder", "data", "line"),
    [
        (Toy, subclass_with(Sounds, name="birds", revision=2, digest="birds"), "dataset: requested 'birds', stored"),
        (subclass_with(Toy, name="ear", revision=2, front_end_id="x"), Sounds, "encoder: requested 'ear', stored"),
    ],
)
def test_the_bank_of_another_data_set_or_encoder_is_called_so(tmp_path, encoder, data, line):
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b")
    with pytest.raises(
        banks.MismatchError, match=f"\n  {line} '.*'; it is the bank of another (data set|encoder)\n"
    ) as caught:
        extract_quietly(encoder(), data(), bank.path)
    _, _, advice = str(caught.value).splitlines()
    assert "--dataset, --encoder, --encoder-option" in advice


class Edited(Sounds):
    """Sounds with another digest, in which one split is changed."""

    digest = "edited"

    def __init__(self, split, change):
        super().__init__()
        self.split, self.change = split, change

    def clips(self, split):
        clips = list(super().clips(split))
        return self.change(clips) if split == self.split else clips


def edited(number, **values):
    return lambda clips: [replace(clip, **values) if i == number else clip for i, clip in enumerate(clips)]


CHANGES = {
    "labels": ("test", edited(1, labels=()), r"the labels of 1 clips of split 'test' \('test-1'\)"),
    "events": ("train", edited(0, events=()), r"the events of 1 clips of split 'train' \('train-0'\)"),
    "groups": ("train", edited(0, groups=("x",)), r"the groups of 1 clips of split 'train' \('train-0'\)"),
    "ids": (
        "train",
        edited(2, id="new"),
        r"1 new ids of split 'train' \('new'\); 1 missing ids of split 'train' \('train-2'\)",
    ),
    "fewer": ("train", lambda clips: clips[:3], r"4 missing ids of split 'train' \('train-3', .* and 1 more\)"),
    "order": ("validation", lambda clips: clips[::-1], "the order of the clips of split 'validation'"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_what_has_changed_in_the_data_set_is_said_in_words(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(Edited, "name", Sounds.name)
    bank = extract_quietly(Toy(), Edited("train", list), tmp_path / "b")
    split, change, message = CHANGES[kind]
    monkeypatch.setattr(Edited, "digest", "edited-2")
    with pytest.raises(banks.MismatchError, match=f"  the data set has changed .* written: {message}\n") as caught:
        extract_quietly(Toy(), Edited(split, change), bank.path)
    assert "digest" not in str(caught.value)


def test_a_split_that_is_missing_is_named(tmp_path, monkeypatch):
    data = Sounds()
    bank = extract_quietly(Toy(), data, tmp_path / "b")
    monkeypatch.setattr(data, "splits", ("train", "test"))
    monkeypatch.setattr(data, "digest", "sounds-2", raising=False)
    with pytest.raises(banks.MismatchError, match="written: split 'validation' is missing"):
        extract_quietly(Toy(), data, bank.path)


def test_changed_classes_are_named(tmp_path, monkeypatch):
    data = Sounds()
    bank = extract_quietly(Toy(), data, tmp_path / "b")
    first, *rest = data.task.classes
    monkeypatch.setattr(data, "task", replace(data.task, classes=(first, *rest, "owl")))
    with pytest.raises(banks.MismatchError, match=r"written: the classes of the task \(new: 'owl'\)\n"):
        extract_quietly(Toy(), data, bank.path)
    monkeypatch.setattr(data, "task", replace(data.task, classes=(*rest, first)))
    with pytest.raises(banks.MismatchError, match=r"the classes of the task \(another order\); the labels"):
        extract_quietly(Toy(), data, bank.path)


def test_every_field_that_differs_is_named(tmp_path):
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b")
    with pytest.raises(banks.MismatchError, match=r"(?s)layers: requested \[0, 1, 2\], stored \[2\].*dtype: .*shape: "):
        extract_quietly(Toy(), Sounds(), bank.path, layers="all", dtype="float32")


def test_a_shard_may_have_one_clip():
    assert banks.BankIdentity.of(Toy(), Sounds(), shard_clips=1).shard_clips == 1


def test_the_manifest_contains_the_identity(tmp_path):
    encoder, data = Toy(), Sounds()
    bank = extract_quietly(encoder, data, tmp_path / "b")
    assert bank.identity == banks.BankIdentity.of(encoder, data, shard_clips=2)
    assert banks.open(bank.path).identity == bank.identity
    stored = json.loads((bank.path / "manifest.json").read_text())
    assert stored["identity"]["encoder_digest"] == encoder.digest
    assert stored["clips"] == {"train": 7, "validation": 3, "test": 4}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layers": "first"}, ValueError, "allowed: 'last', 'all', or indices 0..2"),
        ({"layers": [3]}, ValueError, "the encoder has 3 layers, allowed: -3..2"),
        ({"layers": [2, -1]}, ValueError, "each .* once"),
        ({"layers": []}, ValueError, "at least one "),
        ({"dtype": "float61"}, UnknownNameError, "did you mean 'float16'"),
        ({"content": "pool"}, UnknownNameError, "did you mean 'pooled'"),
        ({"splits": ["trian"]}, UnknownNameError, "did you mean 'train'"),
        ({"splits": ["train", "train"]}, ValueError, "each .* once"),
        ({"splits": []}, ValueError, "at least one "),
        ({"shard_clips": 0}, ValueError, "shard_clips must be at least 1"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        extract_quietly(Toy(), Sounds(), tmp_path / "b", **options)
    assert not (tmp_path / "b").exists()


def test_a_bank_records_whether_its_encoder_is_a_control(tmp_path):
    assert not extract_quietly(Toy(), Sounds(), tmp_path / "a").control
    bank = extract_quietly(subclass_with(Toy, control=True)(), Sounds(), tmp_path / "b")
    assert bank.control
    assert banks.open(bank.path).control
    assert bank.identity == banks.open(tmp_path / "a").identity  # two encoders differ in the digest of their weights


def test_an_upgrade_of_packages_changes_no_bank(tmp_path, monkeypatch):
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b")
    assert bank.versions == {name: importlib.metadata.version(name) for name in ("otoscope", "torch", "numpy")}
    monkeypatch.setattr(manifest, "version", lambda _: "9.9")
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "9.9")
    monkeypatch.setattr(torch, "__version__", "9.9")
    encoder, before = Toy(), file_contents(bank.path)
    again = extract_quietly(encoder, Sounds(), bank.path)
    assert (again.identity, again.versions, encoder.calls) == (bank.identity, bank.versions, [])
    assert file_contents(bank.path) == before
    assert extract_quietly(Toy(), Sounds(), tmp_path / "new").versions["torch"] == "9.9"
