"""Any text is a legal label: no file lies outside the folder, and no two texts share a file."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers_banks import Sounds, Toy, extract_quietly
from helpers_suites import ADAMW, PLAIN, SEARCHED, run_quietly
from otoscope import bank as banks
from otoscope.bench.plan import Pair, Study
from otoscope.bench.runner import prepare
from otoscope.bench.specs import EncoderSpec, ProbeSpec
from otoscope.cli import arguments, commands, main
from otoscope.files import file_name, readable_name

ODD = ["../up", "x" * 300, "x" * 301, "\x1b[31m\0\n", "a/b", "a b", "a-b", "A-b", "CON", ".", "ü", "?%"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=120) | st.sampled_from(ODD), min_size=1, max_size=4))
def test_the_name_of_a_file_is_short_and_safe(parts: list[str]) -> None:
    for name in (file_name(*parts), readable_name(" ".join(parts)) or "empty"):
        assert re.fullmatch(r"[A-Za-z0-9_+][A-Za-z0-9_.+-]{0,108}", name)
        assert not name.endswith(".")


def test_different_texts_have_different_files_also_without_capital_letters() -> None:
    labels = [*ODD, "a", "b", "x", "fold", "1"]
    studies = [Study(Pair(a, b), c) for a in labels for b in labels for c in labels]
    studies += [Study(Pair("a", "b", 1), "c"), Study(Pair("a", "b"), "c", 1), Study(Pair("a-x", "b"), "c")]
    assert len({study.file_name.casefold() for study in studies}) == len(set(studies))


@pytest.mark.usefixtures("toy_suites", "needs_optuna")
def test_suites_with_odd_labels_in_a_folder_with_an_odd_name(tmp_path: Path) -> None:
    out = tmp_path / "out" / "a ?b%20c#ü{x}&"
    suite = dataclasses.replace(
        SEARCHED,
        encoders=(EncoderSpec("ear", ODD[0] + "\n" * 200),),
        probes=tuple(ProbeSpec("linear", label, ADAMW) for label in ODD[:4]),
        search=dataclasses.replace(SEARCHED.search, options={"trials": 2}),  # type: ignore[type-var]
        seeds=1,
    )
    result = run_quietly(suite, out)
    assert result.failures == ()
    assert sorted(record.probe for record in result.store) == sorted(ODD[:4])
    assert len(list((out / "probes").iterdir())) == 4
    assert prepare(suite, out).runs == ()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == [out.name]
    assert (out / "search.db").stat().st_size > 0


@pytest.mark.usefixtures("toy_suites")
def test_failures_of_odd_labels_have_files_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing_fit(*_: object, **__: object) -> None:
        raise ZeroDivisionError("injected")

    monkeypatch.setattr("otoscope.bench.jobs.probe.fit", failing_fit)
    suite = dataclasses.replace(PLAIN, probes=tuple(ProbeSpec("linear", label, ADAMW) for label in ODD), seeds=1)
    assert len(run_quietly(suite, tmp_path).failures) == len(list((tmp_path / "failures").iterdir())) == len(ODD)


def test_the_folder_of_a_bank_is_in_the_folder_of_results(tmp_path: Path) -> None:
    def bank_path(weights: str) -> Path:
        command = ["extract", "--out", str(tmp_path), "--encoder", "whisper", "--encoder-option", f"weights={weights}"]
        return commands.bank_path(arguments.parser().parse_args(command), "last")

    paths = {bank_path(weights) for weights in ("../../up", "/root/model", "up", "-up", "x" * 1000)}
    assert {path.parent for path in paths} == {tmp_path / "banks"}
    assert len(paths) == 5


BAD_SPLITS = [
    "",
    ".",
    "..",
    "a/b",
    "/etc",
    "a\\b",
    "train/../test",
    "./test",
    ".hidden",
    "a\n",
    "x" * 101,
    "c:",
    "test.",
]


@pytest.mark.parametrize("name", BAD_SPLITS)
def test_the_name_of_a_split_must_be_the_name_of_a_folder(tmp_path: Path, name: str) -> None:
    data = Sounds()
    data.splits, data.counts = ("train", name), {"train": 2, name: 2}
    with pytest.raises(ValueError, match=r"a name consists of 1 to 100 letters.*rename the split"):
        extract_quietly(Toy(), data, tmp_path / "bank")
    assert not (tmp_path / "bank").exists()


@pytest.mark.parametrize("name", [*BAD_SPLITS, "Test", "TEST", 3])
def test_an_edited_manifest_does_not_open_the_held_out_split(tmp_path: Path, name: str | int) -> None:
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "bank")
    file = bank.path / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["identity"]["splits"] = [name]
    manifest["clips"] = {name: manifest["clips"]["test"]}
    file.write_text(json.dumps(manifest))
    if name in ("Test", "TEST"):  # on a file system that ignores capital letters
        os.symlink("test", bank.path / str(name))
    with pytest.raises(banks.BankError, match=r"manifest\.json is damaged"):
        banks.open(bank.path)


@pytest.mark.usefixtures("plugin_folder")
def test_a_terminal_without_the_characters_of_a_label_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["list", "probes", "--cost"]) == 0
    assert b"\\u2500" in stream.buffer.getvalue()  # type: ignore[attr-defined]
