"""`otoscope encoders`: what is listed and shown, downloads from several sources, and conversion."""

from __future__ import annotations

import hashlib
import io
import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from helpers_server import Served, serve
from helpers_small_encoder import Small, published
from otoscope import encoders
from otoscope.cli import main
from otoscope.encoders._digests import weights_digest
from otoscope.encoders.catalog import Source, convert_weights, converted_file, get_weights, inspect_weights
from otoscope.files import locked_folder

DIGEST = weights_digest(Small(weights="random", seed=3).body.state_dict().items())


def _pickled() -> bytes:
    file = io.BytesIO()
    torch.save({"cfg": {"lr": 1}, "model": published()}, file)
    return file.getvalue()


@pytest.fixture
def models(isolated_registries: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001
    """The models folder of one test, in which the encoder `small` is registered."""
    monkeypatch.setenv("OTOSCOPE_MODELS", str(tmp_path / "models"))
    encoders.register("small")(type("Registered", (Small,), {"__doc__": Small.__doc__}))
    return tmp_path / "models"


@pytest.fixture
def server() -> Iterator[Served]:
    """A server with the weights of `small` in two formats."""
    with serve(Served({"a.pt": _pickled(), "b.safetensors": save(published())})) as served:
        yield served


def _declare(monkeypatch: pytest.MonkeyPatch, *sources: Source, **fields: object) -> type[Small]:
    cls = encoders.registry.get("small")
    assert issubclass(cls, Small)
    monkeypatch.setattr(cls, "card", replace(cls.card, sources=sources, **fields))
    return cls


def _source(served: Served, name: str, **fields: object) -> Source:
    return Source(url=f"{served.address}/{name}?download=1", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a.pt", "b.safetensors"])
def test_get_downloads_converts_and_says_what_it_has(
    name: str, models: Path, server: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sha256 = hashlib.sha256(server.files[name]).hexdigest()
    _declare(monkeypatch, _source(server, name, sha256=sha256, size=len(server.files[name])), tensors=DIGEST)
    assert main(["encoders", "get", "small"]) == 0
    text = capsys.readouterr().out
    assert "licence: MIT" in text
    assert re.search(r"27 tensors of the encoder \([\d,]+ values\), 1 of a classifier, 1 others that are not", text)
    assert f"digest of the tensors: {DIGEST} (equal to the one on record)" in text
    assert [path.name for path in models.rglob("*") if path.is_file()] == ["small.safetensors"]
    with safe_open(models / "small.safetensors", "pt") as file:
        assert "head.classifier.weight" in file.keys()  # noqa: SIM118
        assert file.metadata()["source"].startswith(server.address)
    assert encoders.create("small").digest == Small(weights="random", seed=3).digest
    assert main(["encoders", "get", "small"]) == 0
    assert len(server.ranges) == 1


@pytest.mark.parametrize("support_ranges", [True, False])
def test_an_interrupted_download_is_continued(
    support_ranges: bool, models: Path, server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = _declare(monkeypatch, _source(server, "a.pt"))
    server.break_after, server.support_ranges = 1000, support_ranges
    with pytest.raises(OSError, match=r"1,000 of [\d,]+ bytes arrived"):
        get_weights(cls)
    assert not converted_file("small").exists()
    assert get_weights(cls).digest == DIGEST
    assert server.ranges == [None, "bytes=1000-"]
    assert (models / "small.safetensors").is_file()


def test_a_long_download_says_how_much_has_arrived(
    models: Path,  # noqa: ARG001
    server: Served,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []
    monkeypatch.setattr("otoscope.download._SECONDS", 0.0)
    monkeypatch.setattr("otoscope.download._CHUNK", 1000)
    size = len(server.files["a.pt"])
    cls = _declare(monkeypatch, _source(server, "a.pt", size=size))
    get_weights(cls, progress=lines.append)
    assert len(lines) == 1 + -(-size // 1000)
    assert lines[-1] == f"  {size / 1e6:,.0f} MB of {size / 1e6:,.0f} MB"


def test_a_mirror_is_used_where_a_source_fails(models: Path, server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    server.files["page.pt"] = b"<html>sign in</html>"
    partial = {name: value for name, value in published().items() if "patch" not in name}
    server.files["partial.safetensors"] = save(partial)
    server.files["other.safetensors"] = save(published(seed=4))
    names = ["gone.pt", "page.pt", "partial.safetensors", "other.safetensors"]
    wrong = [_source(server, "a.pt", sha256="0" * 64), _source(server, "a.pt", size=5)]
    sources = [_source(server, name) for name in names]
    cls = _declare(monkeypatch, *wrong, *sources, _source(server, "b.safetensors"), tensors=DIGEST)
    assert get_weights(cls, progress=lines.append).digest == DIGEST
    problems = [
        f"but {'0' * 64} is published",
        "bytes, but 5 are published",
        "HTTP Error 404",
        "is damaged",
        "missing: patch.bias",
        "has other tensors",
    ]
    for problem in problems:
        assert any(problem in line for line in lines)
    assert sum(line.startswith("downloading") for line in lines) == 7
    assert [path.name for path in models.iterdir() if path.is_file()] == ["small.safetensors"]


def test_without_a_connection_the_steps_by_hand_are_printed(
    models: Path, server: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = Source(url="http://127.0.0.1:9/a.pt", size=361_499_833, sha256="ab" * 32)
    _declare(monkeypatch, nowhere, instructions="Ask its authors.")
    assert main(["encoders", "get", "small"]) == 2
    error = capsys.readouterr().err
    assert "http://127.0.0.1:9/a.pt cannot be downloaded" in error
    assert main(["encoders", "get", "small", "--offline"]) == 2
    offline = capsys.readouterr().err
    assert "cannot be downloaded" not in offline
    for text in (error, offline):
        assert f"- http://127.0.0.1:9/a.pt (361 MB, SHA-256 {'ab' * 32})" in text
        assert f"convert FILE --encoder small` then writes {models / 'small.safetensors'}" in text
        assert "Ask its authors." in text
    for sources, manual in (((), False), ((_source(server, "a.pt"),), True)):
        _declare(monkeypatch, *sources, instructions="Ask its authors.", manual=manual)
        assert main(["encoders", "get", "small"]) == 1
        assert "Ask its authors." in capsys.readouterr().out
    assert server.ranges == []


@pytest.mark.parametrize(("kind", "revision"), [("", "main"), ("datasets/", "main"), ("", "0123abc")])
def test_a_file_in_the_cache_of_the_hub_is_converted_without_a_connection(
    kind: str, revision: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = _declare(monkeypatch, Source(url=f"https://huggingface.co/{kind}org/model/resolve/{revision}/sub/a.pt"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    with pytest.raises(OSError, match="are not on this machine"):
        get_weights(cls, offline=True)
    folder = tmp_path / "hf" / "hub" / f"{'datasets' if kind else 'models'}--org--model"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0123abc\n")
    file = folder / "snapshots" / "0123abc" / "sub" / "a.pt"
    file.parent.mkdir(parents=True)
    file.write_bytes(_pickled())
    assert get_weights(cls, offline=True).digest == DIGEST
    assert file.is_file()
    assert [path.name for path in models.rglob("*") if path.is_file()] == ["small.safetensors"]


def test_convert_checks_a_file_and_keeps_the_classifier_apart(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _declare(monkeypatch, tensors="0" * 64)
    (tmp_path / "a.pt").write_bytes(_pickled())
    command = ["encoders", "convert", str(tmp_path / "a.pt"), "--encoder", "small"]
    assert main([*command, "--to", str(tmp_path / "here.safetensors")]) == 0
    assert f"{DIGEST} (NOT that on record, {'0' * 64})" in capsys.readouterr().out
    assert not models.exists()
    stored, converted = inspect_weights(Small, tmp_path / "a.pt")
    assert (stored.head, converted.head.keys()) == (1, {"classifier.weight"})
    assert main(command) == 0
    assert encoders.create("small", file=str(tmp_path / "here.safetensors")).digest == encoders.create("small").digest
    (tmp_path / "a.pt").write_bytes(b"no checkpoint")
    assert main([*command, "--replace"]) == 2
    assert "is damaged" in capsys.readouterr().err
    assert main(["encoders", "convert", str(tmp_path / "a.pt"), "--encoder", "tiny"]) == 2
    assert "encoder 'tiny' has no published weights" in capsys.readouterr().err


@pytest.mark.parametrize("to", [None, "here.safetensors"])
def test_weights_are_replaced_only_where_this_is_requested(
    to: str | None, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = models / "small.safetensors" if to is None else tmp_path / to
    command = ["encoders", "convert", str(tmp_path / "a.pt"), "--encoder", "small"]
    command += [] if to is None else ["--to", str(target)]
    torch.save(published(), tmp_path / "a.pt")
    assert main(command) == 0
    before = target.read_bytes()
    torch.save(published(seed=4), tmp_path / "a.pt")
    capsys.readouterr()
    assert main(command) == 2
    error = capsys.readouterr().err
    assert f"{target} exists already; --replace" in error
    assert f"replaces it by the weights in {tmp_path / 'a.pt'}" in error
    assert target.read_bytes() == before
    assert main([*command, "--replace"]) == 0
    assert inspect_weights(Small, target)[0].digest != DIGEST


@pytest.mark.skipif(sys.platform == "win32", reason="there are no locks of folders on Windows")
def test_a_process_waits_for_another_one_that_gets_the_same_weights(
    models: Path, server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = _declare(monkeypatch, _source(server, "a.pt"))
    (tmp_path / "a.pt").write_bytes(_pickled())
    waiting, lines = threading.Event(), list[str]()
    with ThreadPoolExecutor(2) as pool:
        with locked_folder(models / ".downloads" / "small"):
            getting = pool.submit(get_weights, cls, progress=lambda line: (lines.append(line), waiting.set()))
            converting = pool.submit(convert_weights, cls, tmp_path / "a.pt")
            assert waiting.wait(30)
            assert lines == ["waiting for a process that gets 'small'"]
            assert not getting.done()
            assert not converting.done()
            (models / "small.safetensors").write_bytes(save(published()))
        assert getting.result(30).digest == DIGEST
        with pytest.raises(FileExistsError, match="exists already"):
            converting.result(30)
    assert server.ranges == []


@pytest.mark.skipif(sys.platform == "win32", reason="there are no locks of folders on Windows")
def test_processes_that_get_the_same_weights_at_once_download_them_once(
    models: Path, server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = _declare(monkeypatch, _source(server, "a.pt"))
    with ThreadPoolExecutor(4) as pool:
        digests = {stored.digest for stored in pool.map(lambda _: get_weights(cls), range(4))}
    assert digests == {DIGEST}
    assert len(server.ranges) == 1
    assert [path.name for path in models.rglob("*") if path.is_file()] == ["small.safetensors"]


def test_list_and_show_say_what_an_encoder_is_and_whether_its_weights_are_here(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _declare(monkeypatch, unverified=("The mirror was not opened.",), supervised=True, tensors=DIGEST)
    assert main(["encoders", "list"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^small +MIT +200 x 1 +2 x 8 +yes +0.0 M +yes +–$", text, re.MULTILINE)
    assert "whisper:PATH[@REVISION]" in text
    assert f"weights are in {models}" in text
    assert main(["encoders", "show", "small"]) == 0
    text = capsys.readouterr().out
    for part in (
        f"missing: {models / 'small.safetensors'}",
        "front end       means",
        "- The mirror was not opened.",
        "nothing; with labels",
        "Seed of the random weights.",
    ):
        assert part in text
    (tmp_path / "a.pt").write_bytes(_pickled())
    main(["encoders", "convert", str(tmp_path / "a.pt"), "--encoder", "small"])
    capsys.readouterr()
    assert main(["encoders", "list"]) == 0
    assert re.search(r"^small .* here$", capsys.readouterr().out, re.MULTILINE)
    assert main(["encoders", "show", "small"]) == 0
    assert f"{DIGEST} (equal to the one on record)" in capsys.readouterr().out


def test_missing_weights_are_found_before_anything_is_built(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cls = _declare(monkeypatch, Source(url="https://zenodo.org/a.pt"), Source(url="https://hub.org/a.pt"))
    monkeypatch.setattr(cls, "build", lambda self: pytest.fail("a body was built"))  # noqa: ARG005
    common = ["bench", "--encoders", "tiny,small", "--datasets", "scenes", "--probes", "mean", "--dry-run"]
    assert main([*common, "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    message = (
        f"missing encoder 'small': the weights of encoder 'small' are not in {models / 'small.safetensors'}; `otoscope "
        "encoders get small` downloads them from zenodo.org or hub.org (licence MIT)"
    )
    assert message in text
    assert "small-random" not in text
    assert main(["probe", "--encoder", "small", "--probe", "mean", "--out", str(tmp_path)]) == 2
    assert "downloads them from zenodo.org" in capsys.readouterr().err
    for name in set(encoders.names()) - {"small"}:
        del encoders.registry._classes[name]
    assert main(["check", "encoder"]) == 0
    assert "not checked, their files are missing: small" in capsys.readouterr().out


WRAPPED = {
    "DistributedDataParallel": lambda weights: {f"module.{name}": value for name, value in weights.items()},
    "torch.compile": lambda weights: {"model": {f"_orig_mod.{name}": value for name, value in weights.items()}},
    "Lightning": lambda weights: {
        "state_dict": {f"net.encoder.{name}": value for name, value in weights.items()},
        "pytorch-lightning_version": "2.5",
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}],
    },
    "EMA": lambda weights: {"model_ema": weights, "epoch": 3},
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_the_wrapping_of_a_training_is_removed(kind: str, models: Path, tmp_path: Path) -> None:
    file = tmp_path / "wrapped.pt"
    torch.save(WRAPPED[kind](published()), file)
    cls = encoders.registry.get("small")
    assert convert_weights(cls, file).digest == DIGEST
    assert converted_file("small").parent == models


def test_convert_says_which_of_several_weights_it_reads(
    models: Path,  # noqa: ARG001
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.save({"ema": published(seed=4), "model": published()}, tmp_path / "both.pt")
    assert main(["encoders", "convert", str(tmp_path / "both.pt"), "--encoder", "small"]) == 0
    printed = capsys.readouterr().out
    assert DIGEST in printed
    assert "read: 'model' of the checkpoint, not 'ema'" in printed
    torch.save({"model": published()}, tmp_path / "one.pt")
    assert main(["encoders", "convert", str(tmp_path / "one.pt"), "--encoder", "small", "--replace"]) == 0
    assert "read:" not in capsys.readouterr().out


def test_a_prefix_of_a_checkpoint_of_another_model_is_no_way_in(models: Path, tmp_path: Path) -> None:  # noqa: ARG001
    weights = {f"net.{name}": value for name, value in published().items()}
    del weights["net.encoder.cls"]
    torch.save(weights, tmp_path / "partial.pt")
    with pytest.raises(ValueError, match=r"does not contain the weights of encoder 'small'; missing"):
        convert_weights(encoders.registry.get("small"), tmp_path / "partial.pt")


def test_a_checkpoint_that_cannot_be_read_says_what_it_contains(models: Path, tmp_path: Path) -> None:  # noqa: ARG001
    cls = encoders.registry.get("small")
    torch.save({"weights": published(), "epoch": 3}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"alone or as state_dict, .*, found dict of weights, epoch$"):
        convert_weights(cls, tmp_path / "other.pt")
    torch.save({"model": published(), "path": Path()}, tmp_path / "code.pt")
    with pytest.raises(ValueError, match=r"more than tensors \(pathlib.*\) and would execute code.*state_dict alone$"):
        convert_weights(cls, tmp_path / "code.pt")
