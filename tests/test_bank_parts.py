"""A bank that several processes write together has the bytes of one that a single process wrote."""

import sys
import threading

import pytest

from helpers_banks import KINDS, VARIED, Sounds, Toy, extract_quietly, file_contents, subclass_with
from otoscope import bank as banks
from otoscope.bank._pipeline import Loading
from otoscope.bank.parts import BankParts

DATA = Sounds(counts=(9, 4, 5), lengths=VARIED)
LOADING = Loading(batch_size=2, workers=0)


def parts_in(folder, encoder=None, **kind):
    parts = BankParts.of(encoder or Toy(), DATA, folder, shard_clips=2, **kind)
    parts.begin()
    return parts


@pytest.mark.parametrize("kind", KINDS)
def test_shards_in_any_order_give_the_bytes_of_an_extraction(tmp_path, kind):
    serial = extract_quietly(Toy(), DATA, tmp_path / "serial", **kind)
    names = list(parts_in(tmp_path / "parts", **kind).shards)
    for rest in (1, 0):
        parts_in(tmp_path / "parts", **kind).write(names[rest::2][::-1], LOADING)
    assert file_contents(tmp_path / "parts") == file_contents(serial.path)
    assert parts_in(tmp_path / "parts", **kind).missing() == []


def test_a_request_to_stop_ends_the_work_after_the_shard_under_way(tmp_path):
    parts = parts_in(tmp_path)
    names, answers = list(parts.shards), iter([False, False, True])
    extraction = parts.write(names, LOADING, stop=lambda: next(answers))
    assert (extraction.clips, parts.missing()) == (4, names[2:])
    assert parts.write(names, LOADING).clips == 14
    assert parts.write(names, LOADING) is None


def test_what_a_killed_process_wrote_of_a_shard_is_deleted(tmp_path):
    parts = parts_in(tmp_path)
    first, second = list(parts.shards)[:2]
    for name in (first, second):
        (tmp_path / name).with_name(f".{(tmp_path / name).name}.1234abcd").write_bytes(b"half")
    parts.write([first], LOADING)
    assert sorted(file.name for file in (tmp_path / "train").iterdir() if file.name.startswith(".")) == [
        ".shard-00001.safetensors.1234abcd"  # another process may be writing it
    ]


def test_a_bank_with_another_identity_is_refused(tmp_path):
    parts_in(tmp_path)
    with pytest.raises(banks.MismatchError, match="dtype: requested 'int8', stored 'float16'"):
        parts_in(tmp_path, dtype="int8")


def test_an_encoder_that_gives_other_tokens_each_time_is_refused(tmp_path):
    count = iter(range(100))
    drifting = subclass_with(
        Toy,
        embed=lambda self, features: Toy.embed(self, features).__class__(
            *(lambda t: (t.x + next(count), t.mask, t.cls))(Toy.embed(self, features))
        ),
    )
    with pytest.raises(banks.BankError, match="gives other tokens when it encodes clip"):
        parts_in(tmp_path, drifting())
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no lock")
def test_an_extraction_of_the_whole_bank_waits_for_a_process_that_writes_shards(tmp_path):
    parts = parts_in(tmp_path)
    started, go_on = threading.Event(), threading.Event()

    def wait(_):
        started.set()
        go_on.wait(10)

    writing = threading.Thread(target=parts.write, args=(list(parts.shards)[:1], LOADING), kwargs={"on_batch": wait})
    writing.start()
    assert started.wait(10)
    extracting = threading.Thread(target=extract_quietly, args=(Toy(), DATA, tmp_path))
    extracting.start()
    extracting.join(0.5)
    assert extracting.is_alive()
    assert len(list(tmp_path.glob("*/shard-*"))) == 0
    go_on.set()
    extracting.join(20)
    writing.join(20)
    assert parts.missing() == []
