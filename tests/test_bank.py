"""Banks: identity, resumable extraction, memory-mapped reading. The encoder and the data set are toys defined here."""

import contextlib
import errno
import importlib.metadata
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save, save_file

from otoscope import bank as banks
from otoscope.audio.decode import AudioError
from otoscope.bank import _shard as shard
from otoscope.bank import identity, manifest
from otoscope.bank.read import open_held_out
from otoscope.bank.write import _format_bytes
from otoscope.datasets import Dataset
from otoscope.encoders import Encoder, Features
from otoscope.registry import UnknownNameError
from otoscope.types import AudioBatch, Clip, Event, Task, Tokens, TokenShape

RATE, BLOCK = 100, 10


class Toy(Encoder):
    """Ten samples a step, three layers, two rows of frequency; padded steps hold NaN, and padding spoils the rest."""

    name, sample_rate, front_end_id = "toy", RATE, "blocks-10"

    def __init__(self, *, has_cls=True, scale=1.0, pad_to=0):
        super().__init__()
        self.pad_to = pad_to
        self.shape = TokenShape(layers=3, freq=2, dim=4, has_cls=has_cls, frame_rate=RATE / BLOCK)
        self.weight = torch.nn.Parameter(scale * torch.linspace(0.5, 1.5, 3 * 2 * 4).reshape(3, 1, 2, 4))
        self.calls = []

    def front_end(self, batch):
        self.calls.append(len(batch.waves))
        missing = max(self.pad_to - batch.waves.shape[1], -batch.waves.shape[1] % BLOCK)
        waves = torch.nn.functional.pad(batch.waves, (0, missing))
        return Features(waves.unfold(1, BLOCK, BLOCK), -(-batch.lengths // BLOCK))

    def embed(self, features):
        level = features.x.mean(2) + features.x.abs().mean((1, 2))[:, None]  # the second term depends on the padding
        x = torch.sin(level[:, None, :, None, None] * self.weight) * self.weight
        mask = torch.arange(x.shape[2])[None] < features.lengths[:, None]
        cls = x[:, :, 0, 0] if self.shape.has_cls else None
        return Tokens(x.masked_fill(~mask[:, None, :, None, None], torch.nan), mask, cls)

    def depth_groups(self):
        return [[self.weight]]


class Sounds(Dataset):
    """Deterministic noise of one length, or of several."""

    name, digest = "sounds", "sounds-1"
    task = Task(("dog", "rain", "bell"), "multi-label", "mAP")

    def __init__(self, counts=(7, 3, 4), lengths=(60,), rate=RATE):
        self.counts, self.lengths, self.rate = dict(zip(self.splits, counts, strict=True)), lengths, rate

    def clips(self, split):
        return [self.clip(split, i) for i in range(self.counts[split])]

    def clip(self, split, i):
        length = self.lengths[i % len(self.lengths)]
        labels = self.task.classes[: i % 4]
        events = tuple(Event(0.1, 0.25 + i, label) for label in labels)
        return Clip(f"{split}-{i}", partial(self.wave, f"{split}-{i}", length), self.rate, labels, events, split)

    def wave(self, id, length):
        seed = int.from_bytes(id.encode(), "little")
        return np.random.default_rng(seed).standard_normal(length).astype(np.float32)


VARIED = (35, 60, 12, 60, 35)
quiet = partial(banks.extract, progress=False, shard_clips=2, batch_size=2)
KINDS = [{}, {"dtype": "int8"}, {"content": "pooled"}, {"content": "pooled", "dtype": "int8"}]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(kind.values()) or "plain")


def tree(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in Path(path).rglob("*") if p.is_file()}


def alone(encoder, clip):
    return encoder.encode(AudioBatch.of([clip.audio], clip.rate))


# What is kept is what the encoder said


@pytest.mark.parametrize("lengths", [(60,), VARIED])
@pytest.mark.parametrize("has_cls", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-7), ("float16", 1e-3), ("bfloat16", 8e-3)])
def test_tokens_come_back(tmp_path, lengths, has_cls, dtype, tolerance):
    encoder, data = Toy(has_cls=has_cls), Sounds(lengths=lengths)
    bank = quiet(encoder, data, tmp_path / "b", dtype=dtype, layers="all")
    assert (bank.shape, bank.task, bank.splits) == (encoder.shape, data.task, data.splits)
    train, clips = bank.split("train"), data.clips("train")
    assert train.steps == max(lengths) // BLOCK
    tokens = train.tokens(slice(None))
    assert tokens.x.dtype == torch.float32
    assert tokens.x.shape == (7, 3, train.steps, 2, 4)
    assert (tokens.cls is None) == (not has_cls)
    for row, clip in enumerate(clips):
        own = alone(encoder, clip)
        steps = own.x.shape[2]
        torch.testing.assert_close(tokens.x[row, :, :steps], own.x[0], atol=tolerance, rtol=tolerance)
        assert tokens.mask[row].tolist() == [True] * steps + [False] * (train.steps - steps)
        assert not tokens.x[row, :, steps:].any()
        if has_cls:
            torch.testing.assert_close(tokens.cls[row], own.cls[0], atol=tolerance, rtol=tolerance)


def test_steps_that_an_encoder_pads_by_itself_are_kept_as_zeros(tmp_path):
    encoder, data = Toy(pad_to=80), Sounds(lengths=VARIED)
    train = quiet(encoder, data, tmp_path / "b").split("train")
    tokens = train.tokens(slice(None))
    assert tokens.x.shape[2] == train.steps == 8
    assert tokens.mask.sum(1).tolist() == [4, 6, 2, 6, 4, 4, 6]
    assert not tokens.x[~tokens.mask[:, None].expand(7, 1, 8)].any()
    assert torch.isfinite(train.pooled().x).all()
    torch.testing.assert_close(
        tokens.x[0, 0, :4], alone(encoder, data.clips("train")[0]).x[0, -1, :4], atol=1e-3, rtol=0
    )


def test_labels_ids_and_events_come_back(tmp_path):
    data = Sounds()
    train = quiet(Toy(), data, tmp_path / "b").split("train")
    clips = data.clips("train")
    assert train.ids == tuple(clip.id for clip in clips)
    assert train.events == tuple(clip.events for clip in clips)
    assert torch.equal(train.targets, data.task.targets(clips))
    assert train.targets.dtype == torch.float32
    assert len(train) == 7


@pytest.mark.parametrize(
    ("layers", "kept"), [("last", [2]), ("all", [0, 1, 2]), ([0], [0]), ([-1, 0], [2, 0]), ((1, 2), [1, 2])]
)
def test_layers_are_chosen(tmp_path, layers, kept):
    encoder, data = Toy(), Sounds()
    bank = quiet(encoder, data, tmp_path / "b", layers=layers, dtype="float32")
    assert (bank.identity.layers, bank.shape.layers) == (tuple(kept), len(kept))
    own = alone(encoder, data.clips("validation")[1]).select_layers(kept)
    found = bank.split("validation").tokens([1])
    torch.testing.assert_close(found.x, own.x)
    torch.testing.assert_close(found.cls, own.cls)


def test_rows_come_in_the_order_asked(tmp_path):
    train = quiet(Toy(), Sounds(lengths=VARIED), tmp_path / "b").split("train")
    whole = train.tokens(range(7))
    for index in ([6, 0, 3, 3], [-1, -7], np.random.default_rng(0).permutation(7), torch.tensor([5, 1]), []):
        rows = [int(i) for i in index]
        found = train.tokens(index)
        assert torch.equal(found.x, whole.x[rows])
        assert torch.equal(found.mask, whole.mask[rows])
        assert torch.equal(found.cls, whole.cls[rows])
    assert torch.equal(train.tokens(slice(5, 1, -2)).x, whole.x[[5, 3]])
    for wrong in ([7], [0, -8]):
        with pytest.raises(IndexError, match=r"rows .* of split 'train', which has 7 clips"):
            train.tokens(wrong)
    with pytest.raises(TypeError):
        train.tokens([0.5])


def test_what_is_read_can_be_changed_without_harm(tmp_path):
    bank = quiet(Toy(), Sounds(), tmp_path / "b")
    before, train = tree(bank.path), bank.split("train")
    first = train.tokens([0]).x.clone()
    train.tokens([0]).x.zero_()
    assert torch.equal(train.tokens([0]).x, first)
    assert tree(bank.path) == before


@pytest.mark.parametrize("has_cls", [True, False])
def test_pooled_is_the_masked_mean_read_once(tmp_path, has_cls):
    data = Sounds(counts=(35, 1, 1), lengths=VARIED)
    bank = quiet(Toy(has_cls=has_cls), data, tmp_path / "b", layers="all")
    train = bank.split("train")
    pooled, whole = train.pooled(), train.tokens(slice(None))
    assert pooled.x.shape == (35, 3, 1, 1, 4)
    torch.testing.assert_close(pooled.summary, whole.summary)
    torch.testing.assert_close(pooled.mean, whole.mean)
    assert train.pooled() is pooled
    assert bank.split("train").pooled() is pooled


def test_a_clip_does_not_depend_on_its_company(tmp_path):
    encoder, data = Toy(), Sounds(lengths=VARIED)
    waves = [clip.audio for clip in data.clips("train")[:2]]
    padded = encoder.encode(AudioBatch.of(waves, RATE)).x[0, :, :3]
    assert not torch.allclose(padded, alone(encoder, data.clips("train")[0]).x[0, :, :3], atol=1e-3)  # a real danger
    flat = Sounds(lengths=VARIED)
    one = quiet(Toy(), flat, tmp_path / "1", batch_size=1, shard_clips=7, dtype="float32").split("train")
    for row, clip in enumerate(data.clips("train")):
        own = alone(encoder, clip).select_layers([-1])
        torch.testing.assert_close(one.tokens([row]).x[:, :, : own.x.shape[2]], own.x)


def test_batches_hold_clips_of_one_length_and_one_shard(tmp_path):
    encoder = Toy()
    quiet(encoder, Sounds(counts=(7, 1, 1), lengths=(60, 60, 35)), tmp_path / "b", shard_clips=4, splits=["train"])
    assert encoder.calls == [1, 1, 2, 1, 1, 2]  # the first only learns the shape; then shards (35 | 60 60, 60 ...) ...


def test_clips_at_another_rate_are_resampled(tmp_path):
    bank = quiet(Toy(), Sounds(rate=2 * RATE, lengths=(120,)), tmp_path / "b")
    assert bank.split("train").steps == 6


# Identity


def renamed(cls, **attributes):
    return type(cls.__name__, (cls,), attributes)


def other_version(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "9.9")


OTHERS = {
    "encoder": lambda _: (renamed(Toy, name="toy2")(), Sounds(), {}),
    "encoder_digest": lambda _: (Toy(scale=1.001), Sounds(), {}),
    "front_end": lambda _: (renamed(Toy, front_end_id="blocks-11")(), Sounds(), {}),
    "dataset": lambda _: (Toy(), renamed(Sounds, name="sounds2")(), {}),
    "dataset_digest": lambda _: (Toy(), renamed(Sounds, digest="sounds-2")(), {}),
    "splits": lambda _: (Toy(), Sounds(), {"splits": ["train", "test"]}),
    "layers": lambda _: (Toy(), Sounds(), {"layers": [0]}),
    "content": lambda _: (Toy(), Sounds(), {"content": "pooled"}),
    "dtype": lambda _: (Toy(), Sounds(), {"dtype": "bfloat16"}),
    "shape": lambda _: (Toy(has_cls=False), Sounds(), {}),
    "shard_clips": lambda _: (Toy(), Sounds(), {"shard_clips": 3}),
    "format": lambda patch: patch.setattr(identity, "FORMAT", 99) or (Toy(), Sounds(), {}),
    "otoscope": lambda patch: other_version(patch) or (Toy(), Sounds(), {}),
    "torch": lambda patch: patch.setattr(torch, "__version__", "9.9") or (Toy(), Sounds(), {}),
}


def test_every_field_of_the_identity_is_tried():
    assert set(OTHERS) == {field.name for field in fields(banks.BankIdentity)}


@pytest.mark.parametrize("field", OTHERS)
def test_a_bank_of_something_else_is_refused_and_left_alone(tmp_path, monkeypatch, field):
    bank = quiet(Toy(), Sounds(), tmp_path / "b")
    before = tree(bank.path)
    encoder, data, options = OTHERS[field](monkeypatch)
    with pytest.raises(banks.MismatchError, match=rf"\n  {field}: requested .*, stored ") as caught:
        quiet(encoder, data, bank.path, **options)
    assert len(str(caught.value).splitlines()) == 3  # the bank, the one field, what to do
    assert tree(bank.path) == before
    assert encoder.calls == []


def test_all_that_differs_is_named(tmp_path):
    bank = quiet(Toy(), Sounds(), tmp_path / "b")
    with pytest.raises(banks.MismatchError, match=r"(?s)layers: requested \[0, 1, 2\], stored \[2\].*dtype: .*shape: "):
        quiet(Toy(), Sounds(), bank.path, layers="all", dtype="float32")


def test_the_manifest_holds_the_identity(tmp_path):
    encoder, data = Toy(), Sounds()
    bank = quiet(encoder, data, tmp_path / "b")
    assert bank.identity == banks.BankIdentity.of(encoder, data, shard_clips=2)
    assert banks.open(bank.path).identity == bank.identity
    held = json.loads((bank.path / "manifest.json").read_text())
    assert held["identity"]["encoder_digest"] == encoder.digest
    assert held["clips"] == {"train": 7, "validation": 3, "test": 4}


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
        quiet(Toy(), Sounds(), tmp_path / "b", **options)
    assert not (tmp_path / "b").exists()


def test_a_bank_says_whether_its_encoder_is_a_control(tmp_path):
    assert not quiet(Toy(), Sounds(), tmp_path / "a").control
    bank = quiet(renamed(Toy, control=True)(), Sounds(), tmp_path / "b")
    assert bank.control
    assert banks.open(bank.path).control
    assert bank.identity == banks.open(tmp_path / "a").identity  # the digest of the weights tells them apart


def test_a_manifest_of_an_older_version_is_read(tmp_path):
    bank = quiet(Toy(), Sounds(), tmp_path / "b")
    file = bank.path / "manifest.json"
    stored = json.loads(file.read_text())
    del stored["control"]
    stored["identity"]["holds"] = stored["identity"].pop("content")
    file.write_text(json.dumps(stored))
    old = quiet(Toy(), Sounds(), bank.path)
    assert old.identity == bank.identity
    assert not old.control


# Interrupted extractions


class FailingOnce(Toy):
    """Raises in its `fatal`-th batch."""

    name = "toy"

    def __init__(self, fatal):
        super().__init__()
        self.fatal = fatal

    def front_end(self, batch):
        if len(self.calls) == self.fatal:
            raise RuntimeError("out of luck")
        return super().front_end(batch)


@every_kind
@pytest.mark.parametrize("fatal", range(3, 12, 2))
def test_an_error_in_the_encoder_costs_one_shard(tmp_path, fatal, kind):
    data = Sounds(counts=(8, 4, 4), lengths=VARIED)
    undisturbed = quiet(Toy(), data, tmp_path / "whole", **kind)
    with pytest.raises(RuntimeError, match="out of luck") as caught:
        quiet(FailingOnce(fatal), data, tmp_path / "b", **kind)
    assert re.match(r"in split '(\w+)', clips \1-\d", caught.value.__notes__[0])
    held = set(tree(tmp_path / "b"))
    with pytest.raises(banks.IncompleteError, match=r"is missing \d of its 8 shards.*run extract again"):
        banks.open(tmp_path / "b")
    encoder = Toy()
    quiet(encoder, data, tmp_path / "b", **kind)
    done = sum(name.endswith(".safetensors") for name in held)
    assert sum(encoder.calls) == 3 + 16 - 2 * done  # one a split to learn the shape, then only what is missing
    assert tree(tmp_path / "b") == tree(undisturbed.path)


class Slow(Toy):
    name = "toy"

    def front_end(self, batch):
        time.sleep(0.002)
        return super().front_end(batch)


MANY = partial(Sounds, counts=(41, 9, 10), lengths=VARIED)


def child(path, die_in=None):
    """Extract in a forked process; `die_in` is the number of the shard in the middle of which it is killed."""
    pid = os.fork()
    if pid == 0:
        if die_in is not None:
            shard.save_file = partial(half, iter(range(die_in)))
        with contextlib.suppress(BaseException):
            quiet(Slow(), MANY(), path)
            os._exit(0)
        os._exit(1)
    return pid


def half(countdown, tensors, file):
    if next(countdown, None) is not None:
        return save_file(tensors, file)
    Path(file).write_bytes(save(tensors)[:-9])
    return os.kill(os.getpid(), signal.SIGKILL)


def kill_often(path):
    """Start extractions into five folders and kill each at random instants; prints how many shards the kills left."""
    torch.set_num_threads(1)
    start = time.monotonic()
    quiet(Slow(), MANY(), f"{path}/timed")
    took, rng, left, ends = time.monotonic() - start, random.Random(0), [], []
    for folder in (f"{path}/{i}" for i in range(5)):
        for _ in range(4):
            pid = child(folder)
            time.sleep(rng.uniform(0, 0.6 * took))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            shards = len(list(Path(folder).glob("*/shard-*")))
            with contextlib.suppress(banks.BankError):
                banks.open(folder)
                shards = "open"
            left.append(shards)
        os.waitpid(child(folder, die_in=0), 0)
        pair = [child(folder), child(folder)]  # two at once: one waits for the other
        ends += [os.waitpid(pid, 0)[1] for pid in pair]
    os.waitpid(child(f"{path}/midway", die_in=7), 0)
    midway = sorted(str(file.relative_to(f"{path}/midway")) for file in Path(f"{path}/midway").rglob("*shard-*"))
    try:
        banks.open(f"{path}/midway")
    except banks.BankError as error:
        print(json.dumps({"left": left, "ends": ends, "midway": midway, "error": type(error).__name__}))


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_killed_at_any_instant_it_ends_in_the_same_bytes(tmp_path):
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); import test_bank; test_bank.kill_often(sys.argv[1])"
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    report = json.loads(run.stdout)
    assert report["ends"] == [0] * 10
    assert any(0 < n < 31 for n in report["left"] if n != "open"), report  # some kills did strike midway
    assert 31 not in report["left"]  # and a bank can be opened exactly when it is whole
    assert report["midway"][0].startswith("train/.shard-00007.safetensors.")
    assert report["midway"][1:] == [f"train/shard-{i:05d}.safetensors" for i in range(7)]
    assert report["error"] == "IncompleteError"
    quiet(Toy(), MANY(), tmp_path / "midway")
    undisturbed = tree(quiet(Toy(), MANY(), tmp_path / "whole").path)
    for folder in ("midway", *range(5)):
        assert tree(tmp_path / str(folder)) == undisturbed


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no lock")
def test_two_extractions_take_turns(tmp_path):
    import fcntl

    folder = tmp_path / "b"
    folder.mkdir()
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)  # as another process would
    second = threading.Thread(target=quiet, args=(Toy(), Sounds(), folder))
    second.start()
    second.join(0.3)
    assert second.is_alive()
    assert tree(folder) == {}
    os.close(handle)
    second.join(10)
    assert len(banks.open(folder).split("train")) == 7


def test_a_whole_bank_is_opened_without_encoding(tmp_path):
    quiet(Toy(), Sounds(), tmp_path / "b")
    assert quiet(FailingOnce(0), Sounds(), tmp_path / "b").splits == ("train", "validation", "test")


def test_a_missing_clips_file_makes_a_bank_incomplete(tmp_path):
    bank = quiet(Toy(), Sounds(), tmp_path / "b")
    before = tree(bank.path)
    (bank.path / "train" / "clips.json").unlink()
    with pytest.raises(banks.IncompleteError, match=r"is missing train/clips\.json"):
        banks.open(bank.path)
    quiet(Toy(), Sounds(), bank.path)
    assert tree(bank.path) == before


# Damage


def poke_header(data):
    return data[:8] + b"#" + data[9:]


DAMAGES = {
    "truncated": lambda data: data[:-1],
    "longer": lambda data: data + b"\0",
    "empty": lambda _: b"",
    "header": poke_header,
    "absurd length": lambda data: b"\xff" * 8 + data[8:],
    "not an object": lambda _: (2).to_bytes(8, "little") + b"[]",
    "renamed tensor": lambda data: data.replace(b'"cls"', b'"clz"'),
    "another dtype": lambda data: data.replace(b'"F16"', b'"I16"'),
    "another shape": lambda data: data.replace(b'"shape":[2,1,', b'"shape":[2,2,'),
}


@every_kind
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_named_and_mended_by_extract(tmp_path, damage, kind):
    bank = quiet(Toy(), Sounds(), tmp_path / "b", **kind)
    before, shard = tree(bank.path), bank.path / "train" / "shard-00001.safetensors"
    shard.write_bytes(DAMAGES[damage](shard.read_bytes()))
    assert tree(bank.path) != before
    with pytest.raises(banks.DamagedError, match=r"train.shard-00001\.safetensors is damaged .*run extract again"):
        banks.open(bank.path)
    encoder = Toy()
    quiet(encoder, Sounds(), bank.path, **kind)
    assert sum(encoder.calls) == 3 + 2
    assert tree(bank.path) == before


def test_a_shard_of_another_place_is_no_shard_of_this(tmp_path):
    bank = quiet(Toy(), Sounds(), tmp_path / "b")
    shutil.copy(bank.path / "train" / "shard-00003.safetensors", bank.path / "train" / "shard-00000.safetensors")
    with pytest.raises(banks.DamagedError, match=r"shard-00000.*cls is F16 \[1, 1, 4\], expected .*\[2, 1, 4\]"):
        banks.open(bank.path)


def test_damaged_clips_are_named(tmp_path):
    bank = quiet(Toy(), Sounds(), tmp_path / "b")
    file = bank.path / "train" / "clips.json"
    text = file.read_text()
    for wrong, message in [
        (text[:-5], "is damaged"),
        ("{}", "is damaged"),
        (text.replace('"dog"', '"dug"'), "is damaged"),
        (text.replace('"train-3", ', ""), "is damaged"),
        ('{"ids": ["a"], "labels": [[]], "events": [[]]}', "lists 1 clips, but the shards beside it contain 7"),
    ]:
        file.write_text(wrong)
        with pytest.raises(banks.DamagedError, match=rf"train.clips\.json {message}"):
            banks.open(bank.path).split("train")


def test_a_damaged_manifest_is_named(tmp_path):
    bank = quiet(Toy(), Sounds(), tmp_path / "b")
    for wrong in ("", "{}", "[]", '{"identity": '):
        (bank.path / "manifest.json").write_text(wrong)
        with pytest.raises(banks.BankError, match=r"manifest\.json is damaged"):
            banks.open(bank.path)


def test_another_format_is_refused(tmp_path, monkeypatch):
    bank = quiet(Toy(), Sounds(), tmp_path / "b")
    monkeypatch.setattr(manifest, "FORMAT", 99)
    with pytest.raises(banks.BankError, match="has format 2, this version of otoscope reads format 99"):
        banks.open(bank.path)


def test_what_is_no_bank_is_refused_and_left_alone(tmp_path):
    with pytest.raises(banks.BankError, match=r"no bank at .*write a bank with `extract`"):
        banks.open(tmp_path / "nowhere")
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(banks.BankError, match=r"not empty and has no manifest\.json"):
        quiet(Toy(), Sounds(), tmp_path)
    with pytest.raises(banks.BankError, match=r"thesis\.txt is a file"):
        quiet(Toy(), Sounds(), tmp_path / "thesis.txt")
    assert tree(tmp_path) == {"thesis.txt": b"years of work"}


# The held-out split


def test_the_test_split_has_one_door(tmp_path):
    bank = quiet(Toy(), Sounds(), tmp_path / "b")
    with pytest.raises(banks.HeldOutError, match=r"held out.*otoscope\.bench"):
        bank.split("test")
    assert open_held_out(bank).ids == tuple(f"test-{i}" for i in range(4))
    with pytest.raises(UnknownNameError, match="did you mean 'train'"):
        bank.split("trian")


def test_a_bank_without_test_split_has_nothing_behind_the_door(tmp_path):
    bank = quiet(Toy(), Sounds(), tmp_path / "b", splits=["train"])
    with pytest.raises(UnknownNameError, match="unknown split 'test'; known: train"):
        open_held_out(bank)


# Size and disk


def with_free(monkeypatch, free):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "total used free")(10**12, 0, free))


def total_bytes(bank):
    """Bytes of all tensors in the files of a bank."""
    return sum(tensor.nbytes for file in bank.path.rglob("*.safetensors") for tensor in load_file(file).values())


@every_kind
@pytest.mark.parametrize("has_cls", [True, False])
def test_a_disk_too_small_by_one_byte_is_refused_before_anything_is_written(tmp_path, monkeypatch, has_cls, kind):
    asked = kind | {"layers": [0, 2]}
    need = total_bytes(quiet(Toy(has_cls=has_cls), Sounds(), tmp_path / "a", **asked))
    with_free(monkeypatch, need - 1)
    with pytest.raises(OSError, match=r"needs .*B more, but the disk has .*B free") as caught:
        quiet(Toy(has_cls=has_cls), Sounds(), tmp_path / "deep" / "b", **asked)
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "deep").exists()
    with_free(monkeypatch, need)
    quiet(Toy(has_cls=has_cls), Sounds(), tmp_path / "deep" / "b", **asked)


def test_only_what_is_missing_needs_room(tmp_path, monkeypatch):
    bank = quiet(Toy(), Sounds(), tmp_path / "b")
    shard = bank.path / "train" / "shard-00000.safetensors"
    shard.unlink()
    with_free(monkeypatch, 2 * ((6 * 2 + 1) * 4 * 2 + 6) - 1)
    with pytest.raises(OSError, match="needs 220 B more, but the disk has 219 B free"):
        quiet(Toy(), Sounds(), bank.path)
    with_free(monkeypatch, 220)
    quiet(Toy(), Sounds(), bank.path)


def test_a_shard_larger_than_foreseen_is_refused_before_it_is_written(tmp_path, monkeypatch):
    lengths = [60] * 16
    lengths[5] = 60000  # between the clips that are looked at first
    data = Sounds(counts=(16, 1, 1), lengths=tuple(lengths))
    with_free(monkeypatch, 16 * ((6 * 2 + 1) * 4 * 2 + 6))
    with pytest.raises(OSError, match="needs 204 kB more"):
        quiet(Toy(), data, tmp_path / "b", splits=["train"])
    assert len(list((tmp_path / "b" / "train").glob("shard-*"))) == 2


def spread(length, at):
    """Lengths of 16 clips: one of `length` at place `at`, all others of 60 samples."""
    return tuple(length if i == at else 60 for i in range(16))


@pytest.mark.parametrize("lengths", [(60,), (10, *[80] * 15), spread(480, 0), spread(480, 8), spread(480, 5)])
@every_kind
def test_the_size_is_estimated_once_for_extraction_and_plan(tmp_path, capsys, lengths, kind):
    encoder, data = Toy(), Sounds(counts=(16, 1, 1), lengths=lengths)
    estimate = banks.estimate_size(encoder, data, banks.BankIdentity.of(encoder, data, **kind))
    bank = banks.extract(encoder, data, tmp_path / "b", **kind)
    announced = capsys.readouterr().err.splitlines()[0]
    assert f"{sum(estimate.clips.values())} clips of {estimate.longest} x 2 tokens" in announced
    assert f": {_format_bytes(estimate.bytes)}, {_format_bytes(estimate.bytes)} still to write" in announced
    if lengths != spread(480, 5):  # that clip is not among the eight that are decoded
        assert estimate.longest == max(lengths) // BLOCK
        assert bank.size.bytes == estimate.bytes


def test_size_is_announced_first(tmp_path, capsys):
    banks.extract(Toy(), Sounds(), tmp_path / "b", shard_clips=2, batch_size=2)
    said = capsys.readouterr()
    assert said.out == ""
    first = said.err.splitlines()[0]
    assert "14 clips of 6 x 2 tokens, width 4, 1 of 3 layers in float16: 1.54 kB, 1.54 kB still to write" in first
    assert "(all layers: 4.45 kB)" in first
    assert "14/14" in said.err
    (tmp_path / "b" / "train" / "shard-00000.safetensors").unlink()
    banks.extract(Toy(), Sounds(), tmp_path / "b", shard_clips=2, batch_size=2)
    assert "1.54 kB, 220 B still to write" in capsys.readouterr().err
    quiet(Toy(), Sounds(), tmp_path / "c")
    assert capsys.readouterr().err == ""


# What cannot be kept


class Loud(Toy):
    """Multiplies by a factor what it says about clips whose first sample is above a threshold."""

    name = "toy"

    def __init__(self, factor, part="x"):
        super().__init__()
        self.factor, self.part = factor, part

    def embed(self, features):
        tokens = super().embed(features)
        loud = torch.where(features.x[:, 0, 0] > 50, self.factor, 1.0)
        x = tokens.x * loud[:, None, None, None, None] if self.part == "x" else tokens.x
        return Tokens(x, tokens.mask, tokens.cls * loud[:, None, None] if self.part == "cls" else tokens.cls)


class OneLoud(Sounds):
    def wave(self, id, length):
        wave = super().wave(id, length)
        if id == "validation-1":
            wave[0] = 100
        return wave


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (torch.nan, "encoder returned a {} that is NaN or infinite"),
        (torch.inf, "encoder returned a {} that is NaN or infinite"),
        (1e6, r"a {} value of .*e\+0\d overflows torch.float16; extract with dtype='bfloat16'"),
    ],
)
@pytest.mark.parametrize(("part", "title"), [("x", "token"), ("cls", "cls")])
@every_kind
def test_tokens_that_are_no_numbers_are_refused(tmp_path, factor, message, part, title, kind):
    if (factor, part, kind.get("dtype")) == (1e6, "x", "int8"):
        pytest.skip("a scale holds it")
    expected = "clip 'validation-1' of split 'validation': .*" + message.format(title)
    with pytest.raises(banks.BankError, match=expected):
        quiet(Loud(factor, part), OneLoud(), tmp_path / "b", **kind)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "int8"])
def test_wider_types_hold_what_overflows_float16(tmp_path, dtype):
    bank = quiet(Loud(1e6), OneLoud(), tmp_path / "b", dtype=dtype)
    assert bank.split("validation").tokens([1]).x.abs().max() > 1e5


class Liar(Toy):
    name = "toy"

    def __init__(self, lie):
        super().__init__()
        self.lie = lie

    def embed(self, features):
        return self.lie(super().embed(features))


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        (lambda t: t.select_layers([0, 1]), r"layers=3.*returned x \[B, L, T, F, D\] = \[1, 2, 6, 2, 4\]"),
        (lambda t: Tokens(t.x[..., :1, :], t.mask, t.cls), "freq=2"),
        (lambda t: Tokens(t.x[..., :3], t.mask), "dim=4"),
        (lambda t: Tokens(t.x[:0], t.mask[:0]), "for 1 clips"),
        (lambda t: Tokens(t.x, t.mask), "has_cls=True, but it returned no cls token"),
    ],
)
def test_an_encoder_that_breaks_its_word_is_caught_before_anything_is_written(tmp_path, lie, message):
    with pytest.raises(banks.BankError, match=message):
        quiet(Liar(lie), Sounds(), tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (np.array([0, np.nan], np.float32), "has NaN or infinite samples"),
        (np.zeros(0, np.float32), "is empty"),
        (np.zeros(60), "is float64"),
        (np.zeros((60, 2), np.float32), r"is float32 \[60, 2\]"),
    ],
)
def test_audio_that_cannot_be_heard_is_named(tmp_path, wave, message):
    broken = renamed(Sounds, wave=lambda self, id, n: wave if id == "train-3" else Sounds.wave(self, id, n))
    with pytest.raises(AudioError, match=f"clip 'train-3' of split 'train': its audio {message}"):
        quiet(Toy(), broken(), tmp_path / "b")


def test_an_error_while_loading_names_the_clip(tmp_path):
    def unplugged(*_):
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone") as caught:
        quiet(Toy(), renamed(Sounds, wave=unplugged)(), tmp_path / "b")
    assert caught.value.__notes__ == ["in split 'train', clips train-0"]


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        (lambda data, split: [data.clip(split, 1), data.clip(split, 1)], "clip id 'train-1' occurs twice"),
        (lambda *_: [], "has no clips in split 'train'"),
        (lambda *_: [Clip("a", lambda: None, 1, ("cow",), (), "train")], "label 'cow' is not one of"),
    ],
)
def test_a_data_set_that_makes_no_sense_is_refused(tmp_path, clips, message):
    with pytest.raises(ValueError, match=message):
        quiet(Toy(), renamed(Sounds, clips=clips)(), tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_digest_that_does_not_cover_the_labels_is_caught(tmp_path):
    bank = quiet(Toy(), Sounds(), tmp_path / "b")
    (bank.path / "test" / "shard-00000.safetensors").unlink()
    changed = renamed(Sounds, clips=lambda self, split: Sounds.clips(self, split)[::-1])
    with pytest.raises(banks.BankError, match=r"train.clips\.json lists other clips.*Correct the digest"):
        quiet(Toy(), changed(), bank.path)
