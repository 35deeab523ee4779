"""The size of a bank, announced and checked before anything is written."""

import errno
import shutil
from collections import namedtuple

import pytest
from safetensors.torch import load_file

from helpers_banks import BLOCK, Sounds, Toy, every_kind, extract_quietly
from otoscope import bank as banks
from otoscope.bank._folder import format_bytes


def set_free_bytes(monkeypatch, free):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "total used free")(10**12, 0, free))


def total_bytes(bank):
    """Bytes of all tensors in the files of a bank."""
    return sum(tensor.nbytes for file in bank.path.rglob("*.safetensors") for tensor in load_file(file).values())


@every_kind
@pytest.mark.parametrize("has_cls", [True, False])
def test_an_extraction_without_enough_free_space_is_refused_before_writing(tmp_path, monkeypatch, has_cls, kind):
    options = kind | {"layers": [0, 2]}
    need = total_bytes(extract_quietly(Toy(has_cls=has_cls), Sounds(), tmp_path / "a", **options))
    set_free_bytes(monkeypatch, need - 1)
    with pytest.raises(OSError, match=r"needs .*B more, but the disk has .*B free") as caught:
        extract_quietly(Toy(has_cls=has_cls), Sounds(), tmp_path / "deep" / "b", **options)
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "deep").exists()
    set_free_bytes(monkeypatch, need)
    extract_quietly(Toy(has_cls=has_cls), Sounds(), tmp_path / "deep" / "b", **options)


def test_only_missing_shards_need_free_space(tmp_path, monkeypatch):
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b")
    shard = bank.path / "train" / "shard-00000.safetensors"
    shard.unlink()
    set_free_bytes(monkeypatch, 2 * ((6 * 2 + 1) * 4 * 2 + 6) - 1)
    with pytest.raises(OSError, match="needs 220 B more, but the disk has 219 B free"):
        extract_quietly(Toy(), Sounds(), bank.path)
    set_free_bytes(monkeypatch, 220)
    extract_quietly(Toy(), Sounds(), bank.path)


@pytest.mark.parametrize("waiting", [2, 100])
def test_a_shard_larger_than_estimated_is_refused_before_it_and_later_ones_are_written(tmp_path, monkeypatch, waiting):
    monkeypatch.setattr("otoscope.bank._store._WAITING", waiting)
    lengths = [60] * 16
    lengths[5] = 60000  # not among the clips that are decoded to estimate the size
    data = Sounds(counts=(16, 1, 1), lengths=tuple(lengths))
    set_free_bytes(monkeypatch, 16 * ((6 * 2 + 1) * 4 * 2 + 6))
    with pytest.raises(OSError, match="needs 204 kB more"):
        extract_quietly(Toy(), data, tmp_path / "b", splits=["train"])
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
    assert f": {format_bytes(estimate.bytes)}, {format_bytes(estimate.bytes)} still to write" in announced
    if lengths != spread(480, 5):  # that clip is not among the eight that are decoded
        assert estimate.longest == max(lengths) // BLOCK
        assert bank.size.bytes == estimate.bytes


def test_the_size_is_announced_before_anything_is_written(tmp_path, capsys):
    banks.extract(Toy(), Sounds(), tmp_path / "b", shard_clips=2, batch_size=2)
    captured = capsys.readouterr()
    assert captured.out == ""
    first = captured.err.splitlines()[0]
    assert "14 clips of 6 x 2 tokens, width 4, 1 of 3 layers in float16: 1.54 kB, 1.54 kB still to write" in first
    assert "(all layers: 4.45 kB)" in first
    assert "14/14" in captured.err
    (tmp_path / "b" / "train" / "shard-00000.safetensors").unlink()
    banks.extract(Toy(), Sounds(), tmp_path / "b", shard_clips=2, batch_size=2)
    assert "1.54 kB, 220 B still to write" in capsys.readouterr().err
    extract_quietly(Toy(), Sounds(), tmp_path / "c")
    assert capsys.readouterr().err == ""
