"""Files of a bank whose bytes changed on disk are refused by name when they are read."""

import shutil

import pytest
import torch

import otoscope as oto
from helpers_banks import Sounds, Toy, encode_separately, every_kind, extract_quietly, file_contents, subclass_with
from otoscope import bank as banks
from otoscope.bank import _shard
from otoscope.bank.read import open_held_out
from otoscope.cli import main


def overwrite(file, count=8):
    """Change the last bytes of a file, and keep its length."""
    data = bytearray(file.read_bytes())
    data[-count:] = bytes(255 - byte for byte in data[-count:])
    file.write_bytes(data)


@every_kind
def test_a_shard_with_other_bytes_is_refused_when_it_is_read(tmp_path, kind):
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b", **kind)
    overwrite(bank.path / "train" / "shard-00001.safetensors")
    train, damage = (
        banks.open(bank.path).split("train"),
        r"train.shard-00001\.safetensors is damaged: .* another digest",
    )
    with pytest.raises(banks.DamagedError, match=damage):
        train.pooled()
    if kind.get("content") != "pooled":
        train.tokens([0, 1, 6])
        with pytest.raises(banks.DamagedError, match=damage):
            train.tokens([1, 2])


def test_every_byte_counts(tmp_path):
    bank = extract_quietly(Toy(), Sounds(counts=(1, 1, 1)), tmp_path / "b")
    file = bank.path / "train" / "shard-00000.safetensors"
    good = file.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    for position in [*range(len(good[:header].rstrip())), *range(header, len(good), 5)]:  # the header ends with spaces
        file.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(banks.DamagedError, match=r"shard-00000\.safetensors is damaged"):
            banks.open(bank.path).split("train").pooled()


def test_a_damaged_bank_is_neither_used_for_training_nor_measured(tmp_path):
    bank = oto.bank.extract(Toy(), Sounds(counts=(12, 8, 8)), tmp_path / "b", progress=False)
    fitted = oto.fit("linear", bank)
    overwrite(bank.path / "test" / "shard-00000.safetensors")
    with pytest.raises(banks.DamagedError, match=r"test.shard-00000\.safetensors is damaged"):
        oto.evaluate(fitted, banks.open(bank.path))
    overwrite(bank.path / "train" / "shard-00000.safetensors")
    with pytest.raises(banks.DamagedError, match=r"train.shard-00000\.safetensors is damaged"):
        oto.fit("linear", banks.open(bank.path))


def test_a_shard_is_verified_once(tmp_path, monkeypatch):
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b")
    verified, digest = [], _shard.content_digest
    monkeypatch.setattr(_shard, "content_digest", lambda path, *rest: verified.append(path.name) or digest(path, *rest))
    train = bank.split("train")
    assert verified == []
    train.tokens([3])
    assert verified == ["shard-00001.safetensors"]
    for _ in range(2):
        train.tokens(range(7))
    assert len(verified) == 4


@pytest.mark.parametrize("source", ["train/shard-00001.safetensors", "validation/shard-00000.safetensors", "other"])
def test_a_shard_that_belongs_elsewhere_is_refused(tmp_path, source):
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b")
    other = extract_quietly(subclass_with(Toy, revision=2)(), Sounds(), tmp_path / "other")
    file = other.path / "train/shard-00000.safetensors" if source == "other" else bank.path / source
    shutil.copy(file, bank.path / "train" / "shard-00000.safetensors")
    with pytest.raises(banks.DamagedError, match=r"train.shard-00000\.safetensors is damaged: .* another digest"):
        banks.open(bank.path).split("train").tokens([0])


def test_verify_names_every_damaged_file(tmp_path):
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b")
    bank.verify()
    before = file_contents(bank.path)
    damaged = ["train/shard-00000.safetensors", "train/shard-00003.safetensors", "test/clips.json"]
    for name in damaged:
        overwrite(bank.path / name)
    with pytest.raises(banks.DamagedError, match=f"are damaged: {', '.join(damaged)}; delete them and run extract"):
        banks.open(bank.path).verify()
    for name in damaged:
        (bank.path / name).unlink()
    extract_quietly(Toy(), Sounds(), bank.path)
    assert file_contents(bank.path) == before


def test_bank_verify_prints_the_result_of_each_bank(tmp_path, capsys):
    good, damaged, incomplete = (extract_quietly(Toy(), Sounds(), tmp_path / name).path for name in ("a", "b", "c"))
    assert main(["bank", "verify", str(good)]) == 0
    assert "all files are as they were written; 0 tokens were rounded to zeros in float16" in capsys.readouterr().out
    overwrite(damaged / "train" / "shard-00000.safetensors")
    assert main(["bank", "verify", str(damaged), str(good)]) == 1
    output = capsys.readouterr()
    assert "are damaged: train/shard-00000.safetensors" in output.err
    assert str(good) in output.out
    overwrite(good / "train" / "shard-00000.safetensors", count=10_000)
    assert main(["bank", "verify", str(good)]) == 1
    (incomplete / "train" / "clips.json").unlink()
    assert main(["bank", "verify", str(incomplete)]) == 2


def test_an_undamaged_bank_reads_what_was_encoded(tmp_path):
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b", dtype="float32")
    expected = encode_separately(Toy(), Sounds().clips("test")[3]).select_layers([2])
    torch.testing.assert_close(open_held_out(bank).tokens([3]).x, expected.x)
