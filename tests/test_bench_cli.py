"""`otoscope bench` on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from otoscope.bank import BankError
from otoscope.bench.resolved_pair import ResolvedPair
from otoscope.bench.suites import Suite
from otoscope.cli import main
from otoscope.search import SearchSpec


def test_a_dry_run_writes_nothing_and_names_missing_data_sets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--suite", "unmute", "--dry-run", "--out", str(tmp_path / "runs")]) == 2
    assert "fsd50k" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--suite", "smoke", "--probes", "mean"],
            "--suite already names encoders, data sets and probes, found --probes as well",
        ),
        (["--encoders", "tiny"], "or all of --encoders, --datasets and --probes"),
        (["--suite", "smok"], "did you mean 'smoke'"),
        (["--suite", "demo", "--search", "tpee"], "did you mean 'tpe'"),
        (["--suite", "demo", "--search", "list", "--trials", "3"], "search 'list'"),
    ],
)
def test_invalid_arguments_print_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_lists_on_the_command_line_form_a_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from otoscope.bench import runner

    suites = []
    monkeypatch.setattr(runner, "prepare", lambda suite, *_, **__: suites.append(suite) or POSSIBLE)
    arguments = ["--encoders", "tiny", "--datasets", "scenes", "--probes", "mean,knn", "--shots", "4", "--seeds", "2"]
    assert main(["bench", *arguments, "--dry-run", "--out", str(tmp_path)]) == 0
    (suite,) = suites
    assert ([spec.name for spec in suite.probes], suite.seeds, suite.datasets[0].shots) == (["mean", "knn"], 2, 4)


@pytest.mark.parametrize("command", ["bench", "probe", "finetune"])
def test_shots_and_views_are_passed_to_the_data_set(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from otoscope.bench import runner

    class StoppedError(BaseException):
        """Raised in place of a run."""

    def stop(suite: Suite, *_: object, **__: object) -> None:
        suites.append(suite)
        raise StoppedError

    suites: list[Suite] = []
    monkeypatch.setattr(runner, "run_suite", stop)
    resolved = {
        "bench": ["--encoders", "tiny", "--datasets", "scenes", "--probes", "mean"],
        "probe": ["--probe", "mean"],
        "finetune": [],
    }
    arguments = [*resolved[command], "--shots", "4", "--views", "5", "--draws", "3"]
    with pytest.raises(StoppedError):
        main([command, *arguments, "--out", str(tmp_path)])
    assert (suites[0].dataset("scenes").shots, suites[0].dataset("scenes").views, suites[0].draws) == (4, 5, 3)


@pytest.mark.parametrize(("arguments", "control"), [([], True), (["--no-control"], False), (["--control"], True)])
def test_the_control_can_be_left_out(
    arguments: list[str], control: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from otoscope.bench import runner

    suites: list[Suite] = []
    monkeypatch.setattr(runner, "prepare", lambda suite, *_, **__: suites.append(suite) or POSSIBLE)
    assert main(["bench", "--suite", "smoke", *arguments, "--dry-run", "--out", str(tmp_path)]) == 0
    assert suites[0].control is control


POSSIBLE = SimpleNamespace(impossible=False)
LISTS = ["--encoders", "tiny", "--datasets", "scenes", "--probes", "mean"]


@pytest.mark.parametrize(
    ("arguments", "search"),
    [
        (["--suite", "demo"], ("sobol", {"trials": 4})),
        (["--suite", "demo", "--trials", "2"], ("sobol", {"trials": 2})),
        (["--suite", "controls", "--trials", "2"], ("tpe", {"trials": 2})),
        (["--suite", "demo", "--search", "tpe"], ("tpe", {"trials": 4})),
        (["--suite", "demo", "--trials", "1"], None),
        (LISTS, None),
        ([*LISTS, "--trials", "3"], ("sobol", {"trials": 3})),
        ([*LISTS, "--trials", "3", "--search", "tpe"], ("tpe", {"trials": 3})),
        ([*LISTS, "--search", "sobol"], ("sobol", {})),
    ],
)
def test_the_search_of_a_suite_can_be_changed(
    arguments: list[str], search: tuple[str, dict[str, int]] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from otoscope.bench import runner

    suites: list[Suite] = []
    monkeypatch.setattr(runner, "prepare", lambda suite, *_, **__: suites.append(suite) or POSSIBLE)
    assert main(["bench", *arguments, "--dry-run", "--out", str(tmp_path)]) == 0
    assert suites[0].search == (None if search is None else SearchSpec(*search))


@pytest.mark.parametrize("dry", [True, False])
def test_a_suite_of_which_nothing_can_be_run_fails(
    dry: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = {"about": "", "encoders": ["tiny"], "datasets": ["nosuch"], "probes": ["linear"]}
    (tmp_path / "suite.json").write_text(json.dumps(suite))
    arguments = ["bench", "--suite", str(tmp_path / "suite.json"), "--out", str(tmp_path)]
    assert main([*arguments, "--dry-run"] if dry else arguments) == 2
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert "missing dataset 'nosuch': not registered; a plug-in is loaded with --plugin FILE" in text
    assert "finished" not in text
    assert dry or "nothing can be run" in captured.err


@pytest.mark.usefixtures("toy_suites")
def test_line_breaks_of_messages_are_printed_and_control_characters_of_labels_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {"name": "finetune", "label": "a\nb\x1b[31m", "options": {"epoch": 3}}
    suite = {"about": "", "encoders": ["ear"], "datasets": ["tones"], "probes": ["linear", wrong], "control": False}
    (tmp_path / "suite.json").write_text(json.dumps(suite))
    assert main(["bench", "--suite", str(tmp_path / "suite.json"), "--seeds", "1", "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "\nnot done, because it is missing: probe 'a\\nb\\x1b[31m'; the plan says why\n" in error
    assert "\x1b" not in error


@pytest.mark.usefixtures("toy_suites")
@pytest.mark.parametrize("quiet", [True, False])
def test_a_suite_of_which_a_part_is_missing_runs_the_rest_and_ends_with_1(
    quiet: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {"encoders": ["ear"], "datasets": ["tones", "nosuch"], "probes": [{"name": "linear", "label": "a"}]}
    suite = {"about": "", "seeds": 1, "control": False} | parts
    (tmp_path / "suite.json").write_text(json.dumps(suite))
    arguments = ["bench", "--suite", str(tmp_path / "suite.json"), "--out", str(tmp_path)]
    assert main([*arguments, "--dry-run"]) == 0, "something can be run"
    for _ in range(2):
        capsys.readouterr()
        assert main([*arguments, "--quiet"] if quiet else arguments) == 1
        captured = capsys.readouterr()
        assert "not done, because it is missing: dataset 'nosuch'; the plan says why" in captured.err
        assert "missing dataset 'nosuch': not registered" in captured.err
    assert "tones" in captured.out
    (tmp_path / "suite.json").write_text(json.dumps(suite | {"datasets": ["tones"]}))
    assert main(arguments) == 0


@pytest.mark.usefixtures("toy_suites")
@pytest.mark.parametrize("quiet", [True, False])
def test_why_a_single_study_cannot_be_run_is_printed_once(
    quiet: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bank, out = str(tmp_path / "bank"), str(tmp_path / "runs")
    assert main(["extract", "--encoder", "ear", "--dataset", "tones", "--bank", bank, "--quiet"]) == 0
    capsys.readouterr()
    arguments = ["--encoder", "tiny", "--dataset", "tones", "--bank", bank, "--out", out]
    assert main(["probe", "--probe", "linear", *arguments, *["--quiet"] * quiet]) == 2
    error = capsys.readouterr().err
    assert error.count("it is the bank of another encoder") == 1
    assert error.startswith("otoscope: error: pair 'tiny x tones'") if quiet else "nothing can be run" in error


@pytest.mark.usefixtures("toy_suites")
def test_a_failed_run_is_reported_without_the_path_of_the_class_of_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing_extract(*_: object, **__: object) -> None:
        error = BankError("the bank is broken")
        error.add_note("clip 'a'")
        raise error

    monkeypatch.setattr(ResolvedPair, "extract", failing_extract)
    arguments = ["bench", "--encoders", "ear", "--datasets", "tones", "--probes", "linear", "--seeds", "1"]
    assert main([*arguments, "--no-control", "--out", str(tmp_path)]) == 1
    text = capsys.readouterr().err
    assert "failed: ear x tones, linear, seed 0: BankError: the bank is broken\n  clip 'a'\n" in text
    assert "ear x tones, linear, seed 0 failed: BankError: the bank is broken\n  clip 'a'\n" in text
    assert "otoscope.bank" not in text


@pytest.mark.parametrize("part", ["encoders", "datasets", "probes"])
def test_an_unknown_name_on_the_command_line_is_an_error(
    part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"encoders": "tiny", "datasets": "scenes", "probes": "linear"} | {part: "scenes,nosuch,linear,tiny"}
    arguments = [text for name, value in names.items() for text in (f"--{name}", value)]
    assert main(["bench", *arguments, "--out", str(tmp_path), "--dry-run"]) == 2
    assert "unknown" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
