"""The parts of a bank, each called by itself, at the boundaries of what they accept."""

from __future__ import annotations

import errno
import inspect
import random
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from helpers_banks import Sounds, Toy, extract_quietly
from otoscope import bank as banks
from otoscope.bank import BankError, BankIdentity, _encode, _folder, _loader, _pipeline, size
from otoscope.bank._batches import BatchLimit, equal_length_batches, padded_batches
from otoscope.bank._cast import check_cast, largest_values
from otoscope.bank._encode import FrozenEncoder, Loaded, Stopwatch, check_repeatable, count_steps, device_of
from otoscope.bank._folder import format_bytes
from otoscope.bank._manifest_values import check_manifest
from otoscope.bank._pipeline import Loading
from otoscope.bank._reader import ShardReader, _as_slice
from otoscope.bank._split_names import check_split_names
from otoscope.bank._turns import _Request, pick_layers
from otoscope.bank.extraction import Extraction
from otoscope.bank.identity import resolve_layers
from otoscope.bank.manifest import shard_rows
from otoscope.bank.parts import BankParts
from otoscope.registry import UnknownNameError
from otoscope.results import Sampling
from otoscope.types import Clip, Tokens, TokenShape

IDENTITY = BankIdentity.of(Toy(), Sounds())


def test_all_ways_to_encode_have_the_same_defaults() -> None:
    def defaults(function: Any) -> dict[str, object]:
        parameters = inspect.signature(function).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}

    stored = {"splits": None, "layers": "last", "content": "tokens", "dtype": "float16", "shard_clips": 64}
    loading = {"batch_size": 16, "batch_seconds": 320.0}
    more = {"loader_workers": None, "compile": False, "progress": True, "allow_shared": False}
    assert defaults(banks.extract) == defaults(banks.encode_on_the_fly) == stored | loading | more
    assert defaults(BankIdentity.of) == stored
    assert defaults(Loading) == loading | {"workers": None, "compiled": False, "sharing": 1}
    assert defaults(BankParts.of) == {"allow_shared": False}


# Identity


@pytest.mark.parametrize(
    ("layers", "expected"),
    [("last", (4,)), ("all", (0, 1, 2, 3, 4)), ([0], (0,)), ([4, -5], (4, 0)), ([-1, 0, 2], (4, 0, 2))],
)
def test_layers_are_resolved(layers: Any, expected: tuple[int, ...]) -> None:
    assert resolve_layers(layers, 5) == expected


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("first", r"layers 'first'; allowed: 'last', 'all', or indices 0\.\.4"),
        ([5], r"layers \[5\]: the encoder has 5 layers, allowed: -5\.\.4"),
        ([0, -6], r"layers \[0, -6\]: the encoder has 5 layers, allowed: -5\.\.4"),
        ([], r"layers \[\]: give at least one index, and each index once"),
        ([4, -1], r"layers \[4, -1\]: give at least one index, and each index once"),
    ],
)
def test_other_layers_are_refused(layers: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_layers(layers, 5)


def test_names_of_splits_have_1_to_100_characters() -> None:
    check_split_names(["a", "Z9", "ä", "a b.c+d=e@f,g-h", "x" * 100, "x" + "," * 99])
    for name in ("", "x" * 101, ".a", " a", "-a", "a ", "a.", "a/b", "a\\b", "a:b", "a\n", "a\nb", 3, None):
        with pytest.raises(ValueError, match="a name consists of 1 to 100 letters, digits and"):
            check_split_names(["a", name])  # type: ignore[list-item]
    check_split_names(["test", "train"])
    for names in (["Test"], ["a", "A"], ["straße", "STRASSE"]):
        with pytest.raises(ValueError, match="differ only in capital letters"):
            check_split_names(names)


def test_a_manifest_has_up_to_ten_million_shards() -> None:
    shape = {"layers": 1, "freq": 1, "dim": 1, "has_cls": False, "frame_rate": 1.0}
    identity = {"splits": ["a", "b"], "dtype": "int8", "content": "pooled", "layers": [0], "shard_clips": 1}
    for clips in (1, 5_000_000):
        check_manifest({"identity": identity | {"shape": shape}, "clips": {"a": 5_000_000, "b": clips}})
    with pytest.raises(ValueError, match="it needs more than 10,000,000 shards"):
        check_manifest({"identity": identity | {"shape": shape}, "clips": {"a": 5_000_000, "b": 5_000_001}})
    large = identity | {"shape": shape, "shard_clips": 1 << 32}
    check_manifest({"identity": large, "clips": {"a": 1, "b": (1 << 40) - 1}})


# Batches


def test_the_limits_of_a_batch_may_be_reached() -> None:
    limit = BatchLimit(3, 30)
    allowed = [limit.allows(*batch) for batch in ((3, 10), (3, 11), (4, 7), (2, 15), (2, 16), (1, 99), (0, 99))]
    assert allowed == [True, False, False, True, False, True, True]
    assert list(equal_length_batches([10] * 4, limit)) == [[0, 1, 2], [3]]
    assert list(equal_length_batches([11] * 3, limit)) == [[0, 1], [2]]
    assert list(equal_length_batches([99, 99], limit)) == [[0], [1]]
    assert list(equal_length_batches([0, 0], BatchLimit(2, 0))) == [[0], [1]]


def test_a_fifth_of_a_batch_may_be_padding() -> None:
    def batches(*lengths: int, clips: int = 9) -> list[list[int]]:
        return list(padded_batches(lengths, BatchLimit(clips, 1000), lambda samples: samples))

    assert batches(100, 60) == [[0, 1]]
    assert batches(100, 59) == [[0], [1]]
    assert batches(100, 100, 41) == [[0, 1, 2]]
    assert batches(100, 100, 39) == [[0, 1], [2]]
    assert batches(100, 100, 39, 38) == [[0, 1], [2, 3]]
    assert batches(90, 100, 95, clips=2) == [[1, 2], [0]]
    assert batches() == []
    costs = {7: 100, 8: 100, 9: 90}
    assert list(padded_batches([7, 9, 8], BatchLimit(9, 1000), costs.__getitem__)) == [[2, 0, 1]]


def test_a_group_ends_with_the_clip_that_reaches_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pipeline, "WAITING_VALUES", 10)
    clips = [Loaded(samples, None, None) for samples in (4, 6, 9, 1, 30, 5)]
    found = [(list(rows), [clip.samples for clip in group]) for rows, group in _pipeline.groups(clips)]
    assert found == [([0, 1], [4, 6]), ([2, 3], [9, 1]), ([4], [30]), ([5], [5])]
    assert list(_pipeline.groups(clips[:2])) == [(range(2), clips[:2])]


@pytest.mark.parametrize(
    ("cores", "cpu", "cuda"), [(1, 1, 1), (2, 1, 1), (7, 1, 6), (8, 2, 7), (17, 4, 16), (99, 24, 16)]
)
def test_the_number_of_workers(cores: int, cpu: int, cuda: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_loader, "available_cores", lambda: cores)
    monkeypatch.setattr(_loader, "can_fork", lambda: True)
    assert _loader.default_workers(256, torch.device("cpu")) == cpu
    assert _loader.default_workers(256, torch.device("cuda")) == cuda
    assert Loading().worker_count(256, torch.device("cpu")) == cpu
    assert Loading(workers=0).worker_count(256, torch.device("cpu")) == 0
    assert Loading(sharing=100).worker_count(256, torch.device("cuda")) == 1


# Casts

CLIPS = [SimpleNamespace(id=f"c{i}", split="train") for i in range(2)]
TINY = {torch.float16: 2.0**-14, torch.bfloat16: 2.0**-126, torch.float32: 2.0**-126}


@pytest.mark.parametrize(("dtype", "stored"), [("float16", torch.float16), ("bfloat16", torch.bfloat16)])
@pytest.mark.parametrize("name", ["token", "cls"])
def test_the_smallest_normal_value_of_a_layer_is_stored(dtype: str, stored: torch.dtype, name: str) -> None:
    identity: Any = SimpleNamespace(dtype=dtype, layers=(3, 5))

    def check(values: torch.Tensor) -> None:
        largest = largest_values(values)
        check_cast(name, largest, largest.to(stored), CLIPS, identity)  # type: ignore[arg-type]

    values = torch.ones(2, 2, 4, dtype=torch.float64)
    values[1, 1] = 0
    values[1, 1, 2] = -TINY[stored]
    check(values)
    values[1, 1] *= 0.99
    message = f"clip 'c1' of split 'train': the largest {name} value of layer 5 is .* and underflows {stored}"
    with pytest.raises(BankError, match=message):
        check(values)
    values[1, 1] = 0
    check(values)


def test_the_scale_of_int8_tokens_is_a_normal_value() -> None:
    identity: Any = SimpleNamespace(dtype="int8", layers=(0,))
    for factor, refused in ((127, False), (126, True)):
        values = torch.full((1, 1, 1), TINY[torch.float32] * factor, dtype=torch.float64)
        scale = (values / 127).float()
        if refused:
            with pytest.raises(BankError, match=r"underflows torch\.float32.* no dtype of a bank can store it"):
                check_cast("token", values, scale, CLIPS[:1], identity)  # type: ignore[arg-type]
        else:
            check_cast("token", values, scale, CLIPS[:1], identity)  # type: ignore[arg-type]
    values = torch.full((1, 1, 1), TINY[torch.float16], dtype=torch.float64)
    check_cast("cls", values, values.half(), CLIPS[:1], identity)  # type: ignore[arg-type]


# Texts


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (123_456, "123 kB"),
        (999_000, "999 kB"),
        (1e6, "1 MB"),
        (2.5e9, "2.5 GB"),
        (1e12, "1 TB"),
        (5e15, "5e+03 TB"),
    ],
)
def test_numbers_of_bytes_have_decimal_units(count: float, text: str) -> None:
    assert format_bytes(count) == text


def test_shares_of_an_extraction() -> None:
    times = {"audio": 1.0, "encoder": 3.0, "total": 4.0}
    extraction = Extraction(1234, 99.6, times, "cpu", 2, 0, 16, 320.0, False)
    assert [extraction.share(part) for part in ("audio", "encoder", "storing")] == [0.25, 0.75, 0.0]
    assert replace(extraction, seconds={"audio": 1.0, "total": 0.0}).share("audio") == 0.0
    shares = "encoder 75 %, waiting for audio 25 %, front end 0 %, storing 0 %"
    assert str(extraction) == f"encoded 1,234 clips, 100 s of audio, in 4.0 s: {shares}"


# Reading


def slow_blocks(rows: Sequence[int], size: int) -> list[tuple[list[int], int, list[int]]]:
    """Positions, shard, and rows within the shard, for blocks that are as long as possible."""
    blocks: list[tuple[list[int], int, list[int]]] = []
    for position, row in enumerate(rows):
        if blocks and blocks[-1][1] == row // size and blocks[-1][2][-1] + 1 == row % size:
            blocks[-1][0].append(position)
            blocks[-1][2].append(row % size)
        else:
            blocks.append(([position], row // size, [row % size]))
    return blocks


def test_consecutive_rows_of_a_shard_are_one_block() -> None:
    reader, source = object.__new__(ShardReader), random.Random(0)
    for clips in (1, 2, 3, 5):
        reader._identity = replace(IDENTITY, shard_clips=clips)
        for _ in range(50):
            starts = [source.randrange(12) for _ in range(source.randrange(1, 4))]
            rows = [start + i for start in starts for i in range(source.randrange(1, 7))]
            found = [(a, shard, b) for a, shard, b in reader._blocks(rows)]
            plain = [(list(range(a.start, a.stop)), shard, list(range(b.start, b.stop))) for a, shard, b in found]
            assert plain == slow_blocks(rows, clips)
    assert list(reader._blocks([])) == []


def test_consecutive_layers_are_a_slice() -> None:
    assert _as_slice([2]) == slice(2, 3)
    assert _as_slice([1, 2, 3]) == slice(1, 4)
    for layers in ([1, 3], [2, 1], [1, 1], [0, 2, 1]):
        assert _as_slice(layers) == layers


def test_layers_of_tensors_are_picked_except_from_the_mask() -> None:
    tensors = {"x": torch.arange(6).view(1, 3, 2, 1, 1), "mask": torch.ones(1, 3).bool(), "cls": torch.arange(3)[None]}
    assert pick_layers(tensors, range(3)) is tensors
    picked = pick_layers(tensors, (2, 0))
    assert picked["x"].flatten().tolist() == [4, 5, 0, 1]
    assert picked["cls"].tolist() == [[2, 0]]
    assert picked["mask"] is tensors["mask"]
    assert pick_layers(tensors, [0, 1])["x"].shape[1] == 2


def test_a_pass_is_shared_by_requests_of_the_same_batches() -> None:
    source: Any = object()
    first = _Request(source, [[0, 1], [2]], [0])
    assert first.shares(_Request(source, [[0, 1], [2]], [1]))
    assert not first.shares(_Request(source, [[0], [1, 2]], [0]))
    assert not first.shares(_Request(object(), [[0, 1], [2]], [0]))  # type: ignore[arg-type]
    assert first.in_order
    assert _Request(source, [range(3)], [0]).in_order
    assert not _Request(source, [[1, 0], [2]], [0]).in_order


# Size


@pytest.mark.parametrize(
    ("clips", "rows"),
    [(1, [0]), (8, list(range(8))), (9, [0, 2, 4, 6, 8]), (16, list(range(0, 16, 2))), (17, list(range(0, 17, 3)))],
)
def test_at_most_eight_clips_of_a_split_are_decoded_to_estimate_its_size(
    clips: int, rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Sequence[Clip]] = []
    monkeypatch.setattr(size, "count_steps", lambda _, members: decoded.append(members) or 6)
    members = {split: Sounds(counts=(clips,) * 3).clips(split) for split in Sounds.splits}
    estimate = banks.BankSize.estimate(Toy(), members, IDENTITY)
    assert [clip.id for clip in decoded[0]] == [f"train-{row}" for row in rows]
    assert (estimate.clips, estimate.longest) == (dict.fromkeys(Sounds.splits, clips), 6)
    with pytest.raises(ValueError, match="split 'train' has no clips; every split of a bank needs at least one"):
        banks.BankSize.estimate(Toy(), members | {"train": []}, IDENTITY)


def test_the_size_of_a_bank_is_that_of_its_missing_shards(tmp_path: Path) -> None:
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b")
    assert bank.size.bytes == sum(bank.size.shards.values()) > 0
    assert (bank.size.missing_bytes(bank.path), bank.size.missing_bytes(tmp_path)) == (0, bank.size.bytes)
    (bank.path / "train/shard-00000.safetensors").unlink()
    assert bank.size.missing_bytes(bank.path) == bank.size.shards["train/shard-00000.safetensors"]
    shape = TokenShape(1, 2, 4, True, 10.0)
    per_clip = 6 * 2 * 4 * 2 + 4 * 2 + 6  # float16 tokens and cls, and the mask
    assert bank.shape == shape
    assert bank.size.bytes == 14 * per_clip
    double = bank.size.stored_as(replace(bank.identity, shape=replace(shape, layers=2)))
    assert double.bytes == 14 * (2 * per_clip - 6)
    assert {field.name for field in fields(bank.size)} == {"identity", "clips", "steps", "shards"}


# Files


def test_a_bank_may_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _folder.free_bytes(tmp_path / "a" / "b") > 0
    monkeypatch.setattr(_folder.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000 + (folder != tmp_path)))
    assert _folder.free_bytes(tmp_path) == _folder.free_bytes(tmp_path / "a" / "b") == 1000
    _folder.check_free_space(tmp_path / "a", 1000)
    with pytest.raises(OSError, match=r"the bank needs 1 kB more, but the disk has 1 kB free; delete files") as caught:
        _folder.check_free_space(tmp_path / "a", 1001)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "a"))


def test_shards_of_a_split() -> None:
    assert shard_rows("a", 0, 3) == {}
    assert shard_rows("a", 3, 3) == {"a/shard-00000.safetensors": range(3)}
    ends = {"a/shard-00001.safetensors": range(3, 4), "a/shard-00000.safetensors": range(3)}
    assert shard_rows("a", 4, 3) == ends
    assert list(shard_rows("a", 123456, 1))[-1] == "a/shard-123455.safetensors"


def test_only_files_of_a_killed_process_are_deleted(tmp_path: Path) -> None:
    kept = ["manifest.json", "a/clips.json", "a/shard-00000.safetensors", "a/.other", "c/.shard-1.x", "a/.tmpfolder/x"]
    deleted = [".manifest.json.1", "a/.clips.json.1", "a/.shard-00000.safetensors.1", "a/.tmp1", "b/.tmp1"]
    for name in (*kept, *deleted):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a/.tmplink").symlink_to(tmp_path / "c")
    with _folder.locked(tmp_path, ["a", "b"]):
        found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir())
    assert found == sorted(kept)
    (tmp_path / "a/.shard-1.safetensors.7").touch()
    (tmp_path / "a/.shard-12.safetensors.7").touch()
    for _ in range(2):
        _folder.delete_partial_shard(tmp_path / "a/shard-1.safetensors")
    assert [path.name for path in (tmp_path / "a").glob(".shard*")] == [".shard-12.safetensors.7"]
    (tmp_path / "link").symlink_to(tmp_path / "a")
    message = "link is a link, and files behind links are never changed"
    with pytest.raises(BankError, match=message), _folder.locked(tmp_path, ["link"]):
        pass


# Clips of a split


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> banks.BankSplit:
    path = tmp_path_factory.mktemp("split") / "b"
    return extract_quietly(Toy(), Sounds(sites=2), path, layers="all").split("train")


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        ([0, 6], [0, 6]),
        ([-1, -7], [6, 0]),
        ([3, 3], [3, 3]),
        ([], []),
        (slice(None), list(range(7))),
        (slice(5, 99), [5, 6]),
        (slice(-2, None), [5, 6]),
        (slice(None, None, -3), [6, 3, 0]),
        (torch.tensor([2, -1]), [2, 6]),
        (range(2), [0, 1]),
    ],
)
def test_rows_of_a_split(split: banks.BankSplit, index: Any, rows: list[int]) -> None:
    assert list(split._rows(index)) == rows
    if rows and not isinstance(index, slice):
        part = split.subset(index, "part")
        assert (part.name, part.ids) == ("part", tuple(split.ids[row] for row in rows))
        assert torch.equal(part.targets, split.targets[rows])
        assert part.events == tuple(split.events[row] for row in rows)
        assert part.groups == tuple(split.groups[row] for row in rows)
        assert split.subset(index).name == "train"
        assert len(part) == len(rows)
        assert part.stored_bytes == sum(split.subset([row]).stored_bytes for row in rows)


@pytest.mark.parametrize("row", [7, -8, 99])
def test_rows_outside_a_split_are_refused(split: banks.BankSplit, row: int) -> None:
    for read in (split.tokens, split.subset):
        with pytest.raises(IndexError, match=rf"rows \[0, {row}\] of split 'train', which has 7 clips"):
            read([0, row])
    with pytest.raises(TypeError):
        split.tokens([0.5])  # type: ignore[list-item]


def test_layers_of_a_split(split: banks.BankSplit) -> None:
    whole = split.tokens([0, 1])
    for layers in ([0], [2], [-1], [1, 2], [2, 0], [0, 1, 2]):
        part = split.tokens([0, 1], layers)
        assert torch.equal(part.x, whole.x[:, layers])
        assert whole.cls is not None
        assert part.cls is not None
        assert torch.equal(part.cls, whole.cls[:, layers])
    for layer in (3, -4):
        with pytest.raises(IndexError):
            split.tokens([0], [layer])


def test_what_is_true_of_a_stored_split(split: banks.BankSplit) -> None:
    assert (split.shared, split.audio_seconds, split.pass_seconds, split.steps, split.content) == (
        False,
        0.0,
        0.0,
        6,
        "tokens",
    )
    pooled = split.pooled()
    assert pooled is split.pooled()
    assert pooled.x.shape == (7, 3, 1, 1, 4)
    with split.batches([[0, 1], [2]], [1]) as batches:
        assert [tokens.x.shape for tokens in batches] == [(2, 1, 6, 2, 4), (1, 1, 6, 2, 4)]


def test_missing_files_are_counted(tmp_path: Path) -> None:
    path = extract_quietly(Toy(), Sounds(), tmp_path / "b").path
    (path / "train/shard-00001.safetensors").unlink()
    (path / "test/shard-00000.safetensors").unlink()
    with pytest.raises(banks.IncompleteError, match="is missing 2 of its 8 shards: its extraction was interrupted"):
        banks.open(path)
    with pytest.raises(BankError, match=f"no bank at {tmp_path}: there is no manifest.json; write a bank with"):
        banks.open(tmp_path)


def test_a_bank_says_what_it_contains(tmp_path: Path) -> None:
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b")
    assert (bank.splits, bank.folds, bank.chosen_fold, bank.control) == (
        ("train", "validation", "test"),
        (),
        None,
        False,
    )
    assert set(bank.versions) == {"otoscope", "torch", "numpy"}
    bank.versions.clear()
    assert bank.versions
    assert (bank.coverage, bank.sampling, bank.task) == ({}, Sampling(), Sounds.task)
    assert bank.underflowed == dict.fromkeys(bank.splits, 0)
    part = bank.split("train").subset([0, 1])
    changed = bank.with_splits({"train": part}, Sampling(shots=1))
    assert (changed.split("train"), changed.sampling) == (part, Sampling(shots=1))
    assert changed.split("validation") is bank.split("validation")
    again = changed.with_splits({"validation": part})
    assert (again.split("train"), again.split("validation"), again.sampling) == (part, part, Sampling(shots=1))
    assert bank.sampling == Sampling()
    with pytest.raises(banks.HeldOutError, match=r"split 'test' of .* is held out: it cannot be replaced"):
        bank.with_splits({"train": part, "test": part})
    with pytest.raises(UnknownNameError, match=r"bank .*: unknown split 'trian'; did you mean 'train'"):
        bank.split("trian")


# Encoding


class Drifting(Toy):
    """A toy whose tokens grow by a factor with every call."""

    revision = 1

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def embed(self, features: Any) -> Tokens:
        tokens = super().embed(features)
        grown = self.factor ** (len(self.calls) - 1)
        return Tokens(tokens.x * grown, tokens.mask, tokens.cls * grown)


@pytest.mark.parametrize(("factor", "accepted"), [(1.0, True), (1 + 3.4e-4, True), (1 + 3.6e-4, False), (0.99, False)])
def test_tokens_may_differ_by_rounding_when_they_are_encoded_again(factor: float, accepted: bool) -> None:
    clips, encoder = Sounds().clips("train"), Drifting(factor)
    if accepted:
        check_repeatable(encoder, clips)
    else:
        message = r"encoder 'toy' gives other tokens when it encodes clip 'train-[01]' of split 'train' again: a value"
        with pytest.raises(BankError, match=rf"{message} differs by \d\.\d+, allowed is 0\.000\d+; disable"):
            check_repeatable(encoder, clips)
    assert encoder.calls == [2, 2]


@pytest.mark.parametrize(("lengths", "calls"), [((60, 30), [1, 1]), ((60, 60, 30), [2, 2]), ((30, 60, 60), [1, 1])])
def test_clips_of_one_length_among_the_first_two_are_encoded_again(lengths: Any, calls: list[int]) -> None:
    encoder = Toy()
    check_repeatable(encoder, Sounds(lengths=lengths).clips("train"))
    assert encoder.calls == calls
    encoder = Toy()
    check_repeatable(encoder, Sounds(lengths=lengths).clips("train")[:1])
    assert encoder.calls == [1, 1]


@pytest.mark.parametrize(("lengths", "steps"), [((60,), 6), ((30, 61, 45), 7), ((61, 60), 7), ((5, 61), 7)])
def test_the_longest_clip_has_the_most_steps(lengths: Any, steps: int) -> None:
    encoder = Toy()
    assert count_steps(encoder, Sounds(lengths=lengths).clips("train")) == steps
    assert encoder.calls == [1]


def test_an_encoder_computes_where_its_weights_are() -> None:
    assert device_of(Toy()) == torch.device("cpu")
    assert device_of(Toy().to("meta")) == torch.device("meta")
    without = Toy()
    del without.weight
    assert device_of(without) == torch.device("cpu")


def test_a_stopwatch_adds_up_the_time_of_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 13.0, 20.0, 25.0, 30.0, 31.0])
    monkeypatch.setattr(_encode.time, "perf_counter", lambda: next(times))
    watch = Stopwatch()
    with watch.measure("a"):
        pass
    with pytest.raises(ValueError, match="invalid literal"), watch.measure("b"):
        int("x")
    with watch.measure("a"):
        pass
    assert watch.seconds == {"a": 4.0, "b": 5.0}


def test_values_of_a_loaded_clip_are_those_in_memory() -> None:
    frozen, clip = FrozenEncoder(Toy()), Sounds(lengths=(64,)).clips("train")[0]
    loaded = frozen.load(clip)
    assert (loaded.samples, loaded.wave, loaded.values) == (64, None, 70)
    assert Loaded(64, clip.audio, None).values == 64
    assert frozen.loads_features
    assert set(frozen.watch.seconds) == {"audio", "front end"}
    tokens = frozen.encode([clip], [loaded])
    assert tokens.x.shape == (1, 3, 7, 2, 4)
    assert not tokens.x.requires_grad
    assert set(frozen.watch.seconds) == {"audio", "front end", "encoder"}


def test_headers_of_shards_are_checked(tmp_path: Path) -> None:
    file = extract_quietly(Toy(), Sounds(), tmp_path / "b").path / "train/shard-00000.safetensors"
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")

    def written(header: bytes, claimed: int | None = None) -> bytes:
        return (len(header) if claimed is None else claimed).to_bytes(8, "little") + header + data[8 + length :]

    header = data[8 : 8 + length].rstrip()
    end = len(data) - 8
    for changed, message in (
        (written(header + b" " * (1 + len(header) % 2)), r"begins at byte \d+, which is no multiple of 2"),
        (written(data[8 : 8 + length], end + 1), f"a header of {end + 1} bytes in a file of {len(data)}"),
        (written(b" " * ((1 << 20) + 1)), "a header of 1048577 bytes in a file of"),
    ):
        file.write_bytes(changed)
        with pytest.raises(banks.DamagedError, match=message):
            banks.open(tmp_path / "b")
    file.write_bytes(written(header + b" " * (-len(header) % 8)))
    banks.open(tmp_path / "b").verify()


def test_a_bank_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BankError, match="file is a file; a bank is a folder: give another path"):
        extract_quietly(Toy(), Sounds(), tmp_path / "file")
