"""Damaged files and files of others are refused with one line, in bounded time and memory."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers_banks import Sounds, Toy, extract_quietly
from helpers_records import without_digest
from helpers_suites import FINETUNED, PLAIN, SOBOL, probe_specs, run_quietly
from otoscope import bank as banks
from otoscope import fit, load
from otoscope.bench import runner, suites
from otoscope.cli import main
from otoscope.files import read_json
from otoscope.results import Store
from otoscope.search import SearchSpec
from otoscope.search._preset import PresetSearch
from otoscope.train import TrainingConfig

DEEP = "[" * 100_000
SHORT = TrainingConfig(epochs=1, batch_size=8)


def message(function: Callable[[], object]) -> str:
    """The message of the error that the command line prints for a function; empty without an error."""
    try:
        function()
    except (ValueError, banks.BankError) as error:
        return str(error)
    return ""


def one_line(function: Callable[[], object], match: str = ".") -> None:
    """Check that a function raises an error that the command line prints as one line."""
    text = message(function)
    assert re.search(match, text)
    assert "\n" not in text
    assert len(text) < 1000


def json_values(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    return [path, *(inner for key, item in items for inner in json_values(item, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


def special(file: Path) -> None:
    """Put a named pipe, which would block a reader for ever, in the place of a file."""
    file.unlink()
    os.mkfifo(file)


class TestJson:
    @pytest.mark.parametrize(
        ("content", "match"),
        [
            (b"", "Expecting value"),
            (b"\xff", "utf-8"),
            (DEEP.encode(), "nested too deeply"),
            (b"1" * 5000, "integer string conversion"),
            (b" " * 2000, "2000 bytes, and at most 1000 are allowed"),
        ],
    )
    def test_a_file_that_is_not_json_is_refused(self, tmp_path: Path, content: bytes, match: str) -> None:
        (tmp_path / "file").write_bytes(content)
        one_line(lambda: read_json(tmp_path / "file", 1000 if content[:1] == b" " else 1 << 20), match)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    def test_a_named_pipe_is_refused(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "file")
        one_line(lambda: read_json(tmp_path / "file"), "not a regular file")
        with pytest.raises(ValueError, match="not a regular file"):
            read_json(tmp_path)


class TestBank:
    def test_every_value_of_a_manifest_may_be_wrong(self, tmp_path: Path) -> None:
        bank = extract_quietly(Toy(), Sounds(), tmp_path / "bank")
        file = bank.path / "manifest.json"
        original, refused = json.loads(file.read_text()), 0
        for path in json_values(original):
            for wrong in (None, -1, 10**18, "x", [[]]):
                file.write_text(json.dumps(replaced(original, path, wrong)))
                text = message(lambda: banks.open(bank.path).split("train").tokens([0]))
                assert "\n" not in text
                refused += bool(text)
        assert refused > 60
        file.write_text(DEEP)
        one_line(lambda: banks.open(bank.path), "manifest.json is damaged")

    @pytest.mark.parametrize(
        ("name", "value"),
        [("clips", {"train": 10**18, "validation": 4, "test": 4}), ("clips", {"train": True}), ("shard_clips", 0)],
    )
    def test_counts_are_checked_before_shards_are_listed(self, tmp_path: Path, name: str, value: Any) -> None:
        bank = extract_quietly(Toy(), Sounds(), tmp_path / "bank")
        file = bank.path / "manifest.json"
        manifest = json.loads(file.read_text())
        (manifest if name == "clips" else manifest["identity"])[name] = value
        file.write_text(json.dumps(manifest))
        one_line(lambda: banks.open(bank.path), r"manifest\.json is damaged")

    def test_offsets_and_lengths_of_a_shard_are_checked(self, tmp_path: Path) -> None:
        bank = extract_quietly(Toy(), Sounds(), tmp_path / "bank")
        file = bank.path / "train/shard-00000.safetensors"
        data = file.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        tensors = [name for name in header if name != "__metadata__"]

        def write(changed: dict[str, Any] | bytes) -> None:
            text = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
            file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])

        for name in tensors:
            start, end = header[name]["data_offsets"]
            for offsets in ([start, end + 1], [start + 1, end + 1], [end, start], [0, 2**70], [True, end], [0], "ab"):
                write(header | {name: header[name] | {"data_offsets": offsets}})
                one_line(lambda: banks.open(bank.path), "is damaged")
        shifted = {name: header[name] | {"data_offsets": header[tensors[0]]["data_offsets"]} for name in tensors}
        for changed in (header | shifted, DEEP.encode(), b" " * (2 << 20)):
            write(changed)
            one_line(lambda: banks.open(bank.path), "is damaged")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    @pytest.mark.parametrize("name", ["manifest.json", "train/clips.json", "train/shard-00000.safetensors"])
    def test_named_pipes_are_refused(self, tmp_path: Path, name: str) -> None:
        bank = extract_quietly(Toy(), Sounds(), tmp_path / "bank")
        special(bank.path / name)
        one_line(lambda: banks.open(bank.path).split("train"), "not a regular file")


@pytest.mark.usefixtures("toy_suites")
class TestResults:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return run_quietly(dataclasses.replace(PLAIN, probes=PLAIN.probes[:1], seeds=1), tmp_path / "out").store

    def test_every_value_of_a_record_may_be_wrong(self, store: Store) -> None:
        (file,) = (store.path / "records").glob("*.json")
        original = without_digest(file)
        refused = 0
        for path in json_values(original):
            for wrong in (-1.5, "x", [[]], True):
                file.write_text(json.dumps(replaced(original, path, wrong)))
                text = message(lambda: list(store))
                assert "\n" not in text
                assert not text or str(file) in text
                refused += bool(text)
        assert refused > 100
        file.write_text(DEEP)
        one_line(lambda: list(store), "nested too deeply")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    def test_special_files_among_records_are_skipped(self, store: Store) -> None:
        os.mkfifo(store.path / "records/pipe.json")
        (store.path / "records/folder.json").mkdir()
        assert len(list(store)) == 1

    def test_predictions_are_checked_before_memory_is_allocated(self, store: Store) -> None:
        (record,) = store
        (file,) = (store.path / "predictions").glob("*.npz")
        original = file.read_bytes()
        with np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)

        def npy(array: Any, shape: str | None = None) -> bytes:
            stream = io.BytesIO()
            np.lib.format.write_array(stream, np.asarray(array), allow_pickle=True)
            data = stream.getvalue()
            return data if shape is None else data.replace(str(np.shape(array)).encode(), shape.encode())

        members = {name: npy(array) for name, array in arrays.items()}
        scores = arrays["scores"]
        wrong: list[dict[str, bytes]] = [
            {"scores": npy(scores, f"({10**12}, 3)")},
            {"scores": npy(scores, "(-24, 3)")},
            {"scores": npy(np.array([{}], object))},
            {"scores": npy(scores.astype("U8"))},
            {"scores": npy(scores[:-1])},
            {"scores": b"\x93NUMPY\x09\x00" + members["scores"][8:]},
            {"ids": npy(np.arange(24))},
            {"other": npy(scores)},
            {"groups": npy(np.array(["a"])), "group_counts": npy(np.array([5]))},
            {"scores": members["scores"] + bytes(100 << 20)},
        ]
        for changed in wrong:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, data in (members | changed).items():
                    archive.writestr(f"{name}.npy", data)
            one_line(lambda: store.predictions(record), "is damaged")
        rng = random.Random(0)
        for _ in range(30):
            damaged = bytearray(original[: rng.randrange(1, len(original) + 1)])
            damaged[rng.randrange(len(damaged))] ^= 255
            file.write_bytes(bytes(damaged))
            assert "\n" not in message(lambda: store.predictions(record))

    @pytest.mark.usefixtures("plugin_folder")
    @pytest.mark.filterwarnings("default")
    @pytest.mark.parametrize("kind", ["damaged", "missing"])
    @pytest.mark.parametrize(
        "command", [["results"], ["results", "--summary"], ["compare", "linear", "mean"], ["report"]]
    )
    def test_unusable_predictions_do_not_stop_a_command(
        self, kind: str, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        suite = dataclasses.replace(PLAIN, probes=probe_specs("linear", "mean", "stats"), seeds=1)
        store = run_quietly(suite, tmp_path / "out").store
        record = next(record for record in store if record.probe == "linear")
        file = store.path / "predictions" / f"{record.key}.npz"
        file.unlink() if kind == "missing" else file.write_bytes(b"PK" + file.read_bytes()[:-9])
        capsys.readouterr()
        status = main([*command, "--out", str(store.path.parent)])
        captured = capsys.readouterr()
        lines = [line for line in captured.err.splitlines() if "warning" in line]
        if command == ["results"]:
            assert (status, lines) == (0, []), "predictions are not read"
            return
        assert len(lines) == 1
        assert lines[0].startswith(f"otoscope: warning: {file} is {kind}")
        assert f"Remove its record {store.path / 'records' / record.key}.json to measure it again" in lines[0]
        assert status == (2 if command[0] == "compare" else 0)

    @pytest.mark.usefixtures("plugin_folder")
    def test_a_record_that_disagrees_with_its_predictions_is_reported(
        self, store: Store, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ["results", "--summary", "--out", str(store.path.parent)]
        assert main(arguments) == 0
        assert "warning" not in capsys.readouterr().err
        (file,) = (store.path / "records").glob("*.json")
        (record,) = store
        file.write_text(json.dumps(without_digest(file) | {"value": record.value / 2}))
        assert main(arguments) == 0
        assert f"states mAP {50 * record.value:.2f}, but its predictions give" in capsys.readouterr().err


@pytest.mark.usefixtures("toy_suites")
def test_a_damaged_probe_is_refused(tmp_path: Path) -> None:
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "bank")
    fit("mean", bank, SHORT).save(tmp_path / "probe")
    file, tensors = tmp_path / "probe/probe.json", tmp_path / "probe/probe.safetensors"
    text, data = file.read_text(), tensors.read_bytes()
    for wrong in ("", "[]", "{}", DEEP, '{"format": 2}'):
        file.write_text(wrong)
        one_line(lambda: load(tmp_path / "probe"), r"probe\.json")
    saved = json.loads(text)
    huge = saved | {"probe": "mlp", "options": {"hidden": 10**9}}
    file.write_text(json.dumps(huge))
    one_line(lambda: load(tmp_path / "probe"), r"describes a probe of \d+ GB")
    file.write_text(text)
    for damaged in (b"", data[:20], (2**40).to_bytes(8, "little") + data[8:]):
        tensors.write_bytes(damaged)
        one_line(lambda: load(tmp_path / "probe"), r"probe\.safetensors is damaged")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "3",
        DEEP,
        '{"about": 1, "encoders": 5, "datasets": [], "probes": []}',
        '{"about": "", "encoders": [[1]], "datasets": ["a"], "probes": ["b"]}',
        '{"about": "", "encoders": ["a"], "datasets": ["a"], "probes": ["b"], "search": []}',
        '{"about": "", "encoders": ["a"], "datasets": ["a"], "probes": ["linear"], "seeds": 1000000000000}',
        '{"about": "", "encoders": ["a"], "datasets": ["a"], "probes": ["linear"], "draws": 1000000000000}',
        '{"about": "", "encoders": ["a"], "datasets": ["a"], "probes": ["b"], "search": {"trials": 1000000000000}}',
    ],
)
def test_a_damaged_suite_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "suite.json").write_text(content)
    one_line(lambda: suites.load(tmp_path / "suite.json"))


@pytest.mark.usefixtures("toy_suites")
def test_damaged_trials_failures_and_checkpoints_are_refused(tmp_path: Path) -> None:
    suite = dataclasses.replace(SOBOL, probes=SOBOL.probes[:1])
    job = runner.Workspace(suite, tmp_path).job(runner.prepare(suite, tmp_path).runs[0].study)
    storage = job.storage
    storage.file.parent.mkdir(parents=True)
    (tmp_path / "failures").mkdir()
    for content in ("", "{}[", "[[]]", '[{"number": 1}]', DEEP):
        storage.file.write_text(content)
        one_line(lambda: PresetSearch.kept(storage), "is damaged")
        (tmp_path / "failures/a.json").write_text(content)
        one_line(lambda: runner.failures(tmp_path), "is damaged")
    tuned = dataclasses.replace(
        PLAIN, probes=(dataclasses.replace(FINETUNED, options={"epochs": 1, "lr": 1e-3}),), seeds=1
    )
    study = runner.prepare(tuned, tmp_path / "tuned").runs[0].study
    checkpoint = runner.Workspace(tuned, tmp_path / "tuned").job(study)._checkpoint(1e-3, 0)  # type: ignore[union-attr]
    checkpoint.parent.mkdir(parents=True)
    for write in (
        lambda: checkpoint.write_bytes(b"PK"),
        lambda: torch.save([1], checkpoint),
        lambda: special(checkpoint),
    ):
        write()
        (failure,) = run_quietly(tuned, tmp_path / "tuned").failures
        assert "is damaged" in failure.error
        assert "delete the file" in failure.error


@pytest.mark.usefixtures("toy_suites", "needs_optuna")
@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_damaged_database_of_trials_is_refused(tmp_path: Path, kind: str) -> None:
    file = tmp_path / ("search.db" if kind == "sqlite" else "search.log")
    file.write_text("not a database\n" * 100)
    suite = dataclasses.replace(PLAIN, search=SearchSpec("tpe", {"trials": 2}))
    database = f"journal:{file}" if kind == "journal" else None
    with pytest.raises(ConnectionError, match="cannot be opened") as caught:
        run_quietly(suite, tmp_path, storage=database)
    assert "\n" not in str(caught.value)
