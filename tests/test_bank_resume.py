"""Interrupted extractions continue and end with the same bytes."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from helpers_banks import VARIED, Sounds, Toy, every_kind, extract_quietly, file_contents, subclass_with
from helpers_killed import MANY
from otoscope import bank as banks


def fails_in_batch(fatal):
    """A toy encoder that raises in its `fatal`-th batch."""

    def embed(encoder, features):
        if len(encoder.calls) == fatal:
            raise RuntimeError("the encoder failed")
        return Toy.embed(encoder, features)

    return subclass_with(Toy, embed=embed)()


@every_kind
@pytest.mark.parametrize("fatal", range(5, 14, 2))
def test_after_an_error_in_the_encoder_one_shard_is_encoded_again(tmp_path, fatal, kind):
    data = Sounds(counts=(8, 4, 4), lengths=VARIED)
    uninterrupted = extract_quietly(Toy(), data, tmp_path / "whole", **kind)
    with pytest.raises(RuntimeError, match="the encoder failed") as caught:
        extract_quietly(fails_in_batch(fatal), data, tmp_path / "b", **kind)
    assert re.match(r"in split '(\w+)', clips \1-\d", caught.value.__notes__[0])
    before = set(file_contents(tmp_path / "b"))
    with pytest.raises(banks.IncompleteError, match=r"is missing \d of its 8 shards.*run extract again"):
        banks.open(tmp_path / "b")
    encoder = Toy()
    extract_quietly(encoder, data, tmp_path / "b", **kind)
    done = sum(name.endswith(".safetensors") for name in before)
    assert sum(encoder.calls) == 3 + 2 + 16 - 2 * done  # one of each split for the size, one twice, what is missing
    assert file_contents(tmp_path / "b") == file_contents(uninterrupted.path)


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_an_extraction_that_was_killed_ends_with_the_same_bytes(tmp_path):
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); import helpers_killed as h; h.kill_at_random({str(tmp_path)!r})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    report = json.loads(run.stdout)
    assert report["ends"] == [0] * 10
    assert any(0 < n < 31 for n in report["shard_counts"] if n != "open"), report  # some were killed midway
    assert 31 not in report["shard_counts"]  # and a bank can be opened exactly when it is complete
    assert report["midway"][0].startswith("train/.shard-00007.safetensors.")
    assert report["midway"][1:] == [f"train/shard-{i:05d}.safetensors" for i in range(7)]
    assert report["error"] == "IncompleteError"
    extract_quietly(Toy(), MANY(), tmp_path / "midway")
    uninterrupted = file_contents(extract_quietly(Toy(), MANY(), tmp_path / "whole").path)
    for folder in ("midway", *range(5)):
        assert file_contents(tmp_path / str(folder)) == uninterrupted


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no lock")
def test_two_extractions_into_one_folder_run_one_after_the_other(tmp_path):
    import fcntl

    folder = tmp_path / "b"
    folder.mkdir()
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)  # as another process does
    second = threading.Thread(target=extract_quietly, args=(Toy(), Sounds(), folder))
    second.start()
    second.join(0.3)
    assert second.is_alive()
    assert file_contents(folder) == {}
    os.close(handle)
    second.join(10)
    assert len(banks.open(folder).split("train")) == 7


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no lock")
def test_a_bank_that_another_extraction_wrote_meanwhile_is_compared(tmp_path):
    import fcntl

    folder, errors = tmp_path / "b", []
    folder.mkdir()
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)

    def extract_another():
        try:
            extract_quietly(Toy(), Sounds(), folder, dtype="float32")
        except banks.MismatchError as error:
            errors.append(str(error))

    second = threading.Thread(target=extract_another)
    second.start()
    second.join(0.3)
    assert second.is_alive()
    written = extract_quietly(Toy(), Sounds(), tmp_path / "first").path
    shutil.copy(written / "manifest.json", folder)
    os.close(handle)
    second.join(10)
    assert len(errors) == 1
    assert "dtype: requested 'float32', stored 'float16'" in errors[0]
    assert set(file_contents(folder)) == {"manifest.json"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no lock")
def test_partial_files_of_a_killed_extraction_are_deleted_and_no_others(tmp_path):
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b")
    complete = file_contents(bank.path)
    (bank.path / "test" / "shard-00000.safetensors").unlink()
    partial = [".manifest.json.x1", "train/.clips.json.x2", "test/.shard-00000.safetensors.x3", "train/.tmpx4"]
    others = [".notes", "train/.DS_Store"]
    for name in (*partial, *others):
        (bank.path / name).write_text("text")
    extract_quietly(Toy(), Sounds(), bank.path)
    assert file_contents(bank.path) == complete | dict.fromkeys(others, b"text")


def test_a_complete_bank_is_opened_without_encoding(tmp_path):
    extract_quietly(Toy(), Sounds(), tmp_path / "b")
    assert extract_quietly(fails_in_batch(0), Sounds(), tmp_path / "b").splits == ("train", "validation", "test")


def test_a_missing_clips_file_makes_a_bank_incomplete(tmp_path):
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b")
    before = file_contents(bank.path)
    (bank.path / "train" / "clips.json").unlink()
    with pytest.raises(banks.IncompleteError, match=r"is missing train/clips\.json"):
        banks.open(bank.path)
    extract_quietly(Toy(), Sounds(), bank.path)
    assert file_contents(bank.path) == before
