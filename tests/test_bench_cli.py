"""`otoscope bench` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from otoscope.bench.suites import Suite
from otoscope.cli import main
from otoscope.search import SearchSpec


def test_a_dry_run_plans_writes_nothing_and_names_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--suite", "unmute", "--dry-run", "--out", str(tmp_path / "runs")]) == 0
    assert "fsd50k" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--suite", "smoke", "--probes", "mean"], "--suite names everything that is compared; found --probes"),
        (["--encoders", "tiny"], "or all of --encoders, --datasets and --probes"),
        (["--suite", "smok"], "did you mean 'smoke'"),
        (["--suite", "demo", "--search", "tpee"], "did you mean 'tpe'"),
        (["--suite", "demo", "--search", "list", "--trials", "3"], "search 'list'"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_lists_on_the_command_line_are_a_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from otoscope.bench import runner

    seen = []
    monkeypatch.setattr(runner, "prepare", lambda suite, *_, **__: seen.append(suite))
    words = ["--encoders", "tiny", "--datasets", "scenes", "--probes", "mean,knn", "--shots", "4", "--seeds", "2"]
    assert main(["bench", *words, "--dry-run", "--out", str(tmp_path)]) == 0
    (suite,) = seen
    assert ([spec.name for spec in suite.probes], suite.seeds, suite.datasets[0].shots) == (["mean", "knn"], 2, 4)


@pytest.mark.parametrize("command", ["bench", "probe", "finetune"])
def test_shots_and_their_views_reach_the_data_set(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from otoscope.bench import runner

    class StoppedError(BaseException):
        """Instead of a run."""

    def instead(suite: Suite, *_: object, **__: object) -> None:
        seen.append(suite)
        raise StoppedError

    seen: list[Suite] = []
    monkeypatch.setattr(runner, "run_suite", instead)
    resolved = {
        "bench": ["--encoders", "tiny", "--datasets", "scenes", "--probes", "mean"],
        "probe": ["--probe", "mean"],
        "finetune": [],
    }
    words = [*resolved[command], "--shots", "4", "--views", "5", "--draws", "3"]
    with pytest.raises(StoppedError):
        main([command, *words, "--out", str(tmp_path)])
    assert (seen[0].dataset("scenes").shots, seen[0].dataset("scenes").views, seen[0].draws) == (4, 5, 3)


LISTS = ["--encoders", "tiny", "--datasets", "scenes", "--probes", "mean"]


@pytest.mark.parametrize(
    ("words", "search"),
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
    words: list[str], search: tuple[str, dict[str, int]] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from otoscope.bench import runner

    seen: list[Suite] = []
    monkeypatch.setattr(runner, "prepare", lambda suite, *_, **__: seen.append(suite))
    assert main(["bench", *words, "--dry-run", "--out", str(tmp_path)]) == 0
    assert seen[0].search == (None if search is None else SearchSpec(*search))
