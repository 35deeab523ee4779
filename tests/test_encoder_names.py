"""Names of encoders that are stored elsewhere, in commands, suites and Python."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from otoscope import encoders
from otoscope.bench import suites
from otoscope.bench.specs import EncoderSpec
from otoscope.bench.suites import SuiteError
from otoscope.cli import main
from otoscope.encoders import Features
from otoscope.encoders._names import label_of, options_of_text
from otoscope.registry import UnknownNameError
from otoscope.results import Store
from otoscope.types import Tokens
from toys import Ear

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Elsewhere(Ear):
    """A toy encoder that claims to come from a folder or a repository, and may execute its code."""

    provenance, written = ("path", "revision", "trust_remote_code"), "path@revision"

    def __init__(
        self, *, path: str, revision: str | None = None, weights: str = "pretrained", trust_remote_code: bool = False
    ) -> None:
        super().__init__(seed=int(weights == "random"))
        self.control = weights == "random"
        self.source, self.trusted = (path, revision), trust_remote_code


@pytest.fixture
def elsewhere(toy_plugins: None) -> None:  # noqa: ARG001
    encoders.register("els")(Elsewhere)


@pytest.mark.parametrize(
    ("written", "text", "options"),
    [
        ("path@revision", "org/model", {"path": "org/model"}),
        ("path@revision", f"org/model@{COMMIT}", {"path": "org/model", "revision": COMMIT}),
        ("module:weights", "my.module", {"module": "my.module"}),
        ("module:weights", "my.module:a@b.pt", {"module": "my.module", "weights": "a@b.pt"}),
        ("file:cls", "C:\\mine.py:Ears", {"file": "C:\\mine.py", "cls": "Ears"}),
        ("path", "a:b@c.onnx", {"path": "a:b@c.onnx"}),
        ("path", "~/m.onnx", {"path": str(Path.home() / "m.onnx")}),
    ],
)
def test_the_text_after_the_colon_gives_options(written: str, text: str, options: dict[str, str]) -> None:
    assert options_of_text("kind", written, text) == options


def test_a_path_that_exists_is_not_divided(tmp_path: Path) -> None:
    (tmp_path / "model@2").mkdir()
    assert options_of_text("hf", "path@revision", str(tmp_path / "model@2")) == {"path": str(tmp_path / "model@2")}


@pytest.mark.parametrize(("text", "form"), [("", "hf:PATH[@REVISION]"), ("a@", "hf:PATH[@"), ("@b", "hf:PATH[@")])
def test_an_incomplete_text_is_refused_with_its_form(text: str, form: str) -> None:
    with pytest.raises(ValueError, match=r"is not complete; write ") as error:
        options_of_text("hf", "path@revision", text)
    assert form in str(error.value)


@pytest.mark.parametrize(
    ("written", "options", "label"),
    [
        ("path@revision", {"path": "openai/whisper-tiny", "revision": COMMIT}, "whisper-tiny"),
        ("path@revision", {"path": "/models/whisper-tiny.en/", "trust_remote_code": True}, "whisper-tiny.en"),
        ("file:cls", {"file": "/a/mine.py", "cls": "Ears", "weights": "random"}, "mine-Ears-random"),
        ("path", {"path": "C:\\graphs\\ear.onnx", "pool": 2}, "ear-pool=2"),
        ("module:weights", {"module": "hear.base"}, "hear.base"),
        ("", {"seed": 1}, "kind-seed=1"),
    ],
)
def test_labels_are_short(written: str, options: dict[str, object], label: str) -> None:
    assert label_of("kind", written, options) == label


def test_names_with_a_text_work_in_python(elsewhere: None) -> None:  # noqa: ARG001
    created = encoders.create(f"els:org/model@{COMMIT}", weights="random")
    assert (created.source, created.control) == (("org/model", COMMIT), True)
    assert created.options_text == '{"weights": "random"}'
    with pytest.raises(ValueError, match="its name gives the option 'path' already"):
        encoders.create("els:a", path="b")
    with pytest.raises(ValueError, match="encoder 'ear' has no text after a colon"):
        encoders.create("ear:a")


def test_unknown_kinds_and_bare_repositories_are_refused_with_a_suggestion(elsewhere: None) -> None:  # noqa: ARG001
    with pytest.raises(UnknownNameError, match=r"unknown kind of encoder 'elss' in 'elss:a'; did you mean 'els:a'\?"):
        encoders.create("elss:a")
    with pytest.raises(UnknownNameError, match="is written hf:openai/whisper-tiny"):
        encoders.create("openai/whisper-tiny")


def _suite(tmp_path: Path, *names: object) -> suites.Suite:
    content = {"about": "a test", "encoders": names, "datasets": ["tones"], "probes": ["mean"]}
    (tmp_path / "suite.json").write_text(json.dumps(content))
    return suites.load(tmp_path / "suite.json")


def test_a_suite_names_encoders_in_the_same_way(elsewhere: None, tmp_path: Path) -> None:  # noqa: ARG001
    suite = _suite(tmp_path, "ear", "els:a/one", {"name": "els:b/one"}, "els:b/two", {"name": "els:c/x", "label": "y"})
    assert [spec.label for spec in suite.encoders] == ["ear", "els:a/one", "els:b/one", "two", "y"]
    assert suite.encoders[1] == EncoderSpec("els", "els:a/one", {"path": "a/one"})
    (item,) = suites.unavailable(_suite(tmp_path, "ear", "elss:a"))
    assert (item.name, "did you mean 'els:a'" in item.reason) == ("elss:a", True)


def test_a_suite_cannot_allow_remote_code(elsewhere: None, tmp_path: Path) -> None:  # noqa: ARG001
    with pytest.raises(SuiteError, match="a suite cannot allow the code of a repository"):
        _suite(tmp_path, {"name": f"els:a@{COMMIT}", "options": {"trust_remote_code": True}})


def test_a_command_measures_an_encoder_by_its_text(
    elsewhere: None,  # noqa: ARG001
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    common = ["--probe", "mean", "--dataset", "tones", "--out", str(tmp_path), "--quiet"]
    assert main(["probe", "--encoder", "els:org/model", *common]) == 0
    assert main(["probe", "--encoder", "els", "--encoder-option", "path=org/model", *common]) == 0
    assert [(record.encoder, record.encoder_name) for record in Store(tmp_path / "results")] == [("model", "els")]
    assert main(["bench", "--encoders", "elss:a", "--datasets", "tones", "--probes", "mean", "--dry-run"]) == 2
    assert "did you mean 'els:a'" in capsys.readouterr().err


def test_what_an_encoder_measures_to_be_is_shown(elsewhere: None, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ARG001
    assert main(["encoders", "show", "els:a"]) == 0
    shown = dict(re.split(r"  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    encoder = encoders.create("els:a")
    assert shown["frame rate"] == f"{encoder.shape.frame_rate:g} time steps per second"
    assert shown["layers x width"] == f"{encoder.shape.layers} x {encoder.shape.dim}"
    assert (shown["front end"], shown["identity"]) == (encoder.front_end_id, encoder.identity_digest)


def test_a_contract_is_checked_by_text(elsewhere: None, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ARG001
    main(["check", "encoder", "els:org/model"])
    assert "els:org/model: 13 of 15 checks passed" in capsys.readouterr().out  # a toy refuses some lengths


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("els:org/model", "so it must be pinned: write els:org/model@REVISION"),
        ("els:org/model@main", "so it must be pinned"),
        ("ear", "encoder 'ear' executes no code of a repository; leave out --trust-remote-code"),
    ],
)
def test_remote_code_needs_a_pinned_revision(
    elsewhere: None,  # noqa: ARG001
    encoder: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["probe", "--encoder", encoder, "--trust-remote-code", "--probe", "mean", "--dataset", "tones"]) == 2
    assert message in capsys.readouterr().err


def test_remote_code_is_allowed_by_the_command_line_alone(
    elsewhere: None,  # noqa: ARG001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trusted: list[bool] = []

    def embed(self: Elsewhere, features: Features) -> Tokens:
        trusted.append(self.trusted)
        return Ear.embed(self, features)

    monkeypatch.setattr(Elsewhere, "embed", embed)
    common = ["--datasets", "tones", "--probes", "mean", "--no-control", "--quiet", "--out", str(tmp_path)]
    assert main(["bench", "--encoders", f"els:org/model@{COMMIT},ear", "--trust-remote-code", *common]) == 0
    assert set(trusted) == {True}
    assert main(["bench", "--suite", "smoke", "--trust-remote-code", "--dry-run"]) == 2
    assert "not allowed with --suite" in capsys.readouterr().err
