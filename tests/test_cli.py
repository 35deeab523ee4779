"""The command line on a toy encoder and data set, which are plug-ins: results and error messages."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
from functools import wraps
from pathlib import Path
from textwrap import dedent

import pytest
from torch import Tensor

from helpers_docs import python_block
from helpers_records import add_scenes
from helpers_units import visible_files
from otoscope import bank as banks
from otoscope import probes
from otoscope.bench import demo, suites
from otoscope.bench.plan import Plan
from otoscope.bench.runner import SuiteResult
from otoscope.cli import main
from otoscope.results import Store
from otoscope.types import Tokens, TokenShape
from toys import Ear, run_toy

COMMANDS = ("demo", "list", "encoders", "extract", "probe", "layers", "finetune", "results", "report", "check")
MELODY = """
from otoscope.datasets import register
from toys import Tones

@register("melody")
class Melody(Tones):
    pass
"""

ADAMW = ["--option", "solver=adamw"]


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("otoscope: error: ")
    assert err.count("\n") == 1
    return err


def test_help_is_fast_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom otoscope.cli import main\n"
        f"for words in {[[c, '--help'] for c in COMMANDS] + [['--help'], ['--version']]}:\n"
        "    try: main(words)\n    except SystemExit as end: assert end.code == 0\n"
        "print([m for m in ('torch', 'numpy', 'scipy', 'matplotlib', 'sklearn') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
    assert all(f"usage: otoscope {c}" in result.stdout for c in COMMANDS)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "from otoscope.cli import main; main(['--help'])"], capture_output=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5


@pytest.mark.usefixtures("isolated_registries")
def test_list_names_plugins_and_costs(capsys: pytest.CaptureFixture[str]) -> None:
    class Even(probes.ClipProbe):
        def __init__(self, shape: TokenShape, n_classes: int) -> None:
            super().__init__(shape, n_classes)
            if shape.dim % 8:
                raise ValueError("the token width must be a multiple of 8")

        def forward(self, tokens: Tokens) -> Tensor:
            return tokens.mean[:, 0, :1].expand(-1, self.n_classes)

    probes.register("even")(Even)
    assert main(["list"]) == 0
    names = {"encoders", "datasets", "probes", "metrics", "searches", "tiny", "protobin", "mAP", "sobol"}
    assert names <= set(capsys.readouterr().out.split())
    assert main(["list", "probes", "--cost", "--dim", "768", "--classes", "527"]) == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert lines["linear"][1] == "405,263"
    assert lines["mhca"][1] == "1,585,679"
    assert main(["list", "probes", "--cost", "--dim", "100"]) == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert lines["ep"][1] == "65,727"  # 25 queries
    assert lines["even"][1:] == ["–", "–", "–"]


def test_extract_probe_search_finetune_results_and_report(
    plugin_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_toy("extract", "--layers", "all") == 0
    assert run_toy("probe", "--probe", "linear", *ADAMW, "--epochs", "2", "--trials", "2", "--seeds", "2") == 0
    assert run_toy("probe", "--probe", "protobin", "--epochs", "2", "--option", "prototypes_per_class=4") == 0
    assert run_toy("probe", "--probe", "mean", "--epochs", "2", "--layer", "0") == 0
    assert run_toy("finetune", "--epochs", "1") == 0
    output = capsys.readouterr().out
    assert "ear on tones: mAP in %, 95 % intervals over 24 held-out clips" in output
    assert main(["results", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(r["probe"], r["seed"]) for r in rows] == [
        ("finetune", "0"),
        ("linear", "0"),
        ("linear", "1"),
        ("mean", "0"),
        ("protobin", "0"),
    ]
    assert all(r["lr"] for r in rows[1:3])
    assert json.loads(rows[3]["protocol"])["layers"] == [0]
    assert json.loads(rows[4]["protocol"])["options"] == {"prototypes_per_class": 4}
    assert main(["results", "--summary", "--format", "json", "--probe", "linear"]) == 0
    assert [row["seeds"] for row in json.loads(capsys.readouterr().out)] == [2]
    assert main(["report"]) == 0
    assert Path(capsys.readouterr().out.strip()) == (plugin_folder / "otoscope-runs" / "report.html")
    assert (plugin_folder / "otoscope-runs" / "report.html").read_text().startswith("<!doctype html>")


@pytest.mark.usefixtures("plugin_folder")
@pytest.mark.parametrize("bank", [[], ["--bank", "elsewhere"]])
def test_a_probe_reads_the_extracted_bank(bank: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_toy("extract", *bank) == 0
    monkeypatch.setattr(Ear, "embed", None)
    assert run_toy("probe", "--probe", "mean", "--epochs", "1", *bank) == 0


@pytest.mark.usefixtures("plugin_folder")
@pytest.mark.parametrize(
    ("command", "changed"),
    [
        (["probe", "--probe", "mean", *ADAMW, "--epochs", "2", "--trials", "2", "--seeds", "2"], ["--trials", "3"]),
        (["probe", "--probe", "mean", *ADAMW, "--epochs", "1", "--lr", "0.01"], ["--lr", "0.02"]),
        (["probe", "--probe", "mhca", "--epochs", "1", "--option", "heads=3"], ["--no-resolve-head"]),
        (["probe", "--probe", "mean", "--epochs", "1"], ["--layer", "0"]),
        (["probe", "--probe", "mean", "--epochs", "1"], ["--option", "norm=layer"]),
        (["finetune", "--epochs", "1"], ["--lr", "0.002"]),
        (["finetune", "--epochs", "1"], ["--encoder-option", "seed=1"]),
    ],
)
def test_the_same_command_again_reuses_its_results(
    command: list[str], changed: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_toy(*command) == 0
    capsys.readouterr()
    first = list(Store("otoscope-runs/results"))
    with monkeypatch.context() as patch:
        for name in ("jobs.probe.fit", "jobs.probe.fit_many", "jobs.finetune.finetune"):
            patch.setattr(f"otoscope.bench.{name}", None)
        assert run_toy(*command) == 0
        assert f"nothing to do: all {len(first) + 2 * ('--trials' in command)} runs are finished" in (
            capsys.readouterr().out
        )
        assert list(Store("otoscope-runs/results")) == first
    assert run_toy(*command, *changed) == 0
    assert "nothing to do" not in capsys.readouterr().out
    assert len(list(Store("otoscope-runs/results"))) == 2 * len(first)


@pytest.mark.parametrize("form", ["table", "csv", "json", "markdown"])
def test_results_in_every_format_from_the_demo_if_there_are_no_runs(
    form: str, plugin_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_scenes(Store(plugin_folder / "otoscope-demo" / "results"), "linear", 1.0)
    assert main(["results", "--format", form]) == 0
    assert "linear" in capsys.readouterr().out
    assert main(["results", "--format", form, "--summary"]) == 0
    assert "linear" in capsys.readouterr().out


def test_demo_prints_the_table_and_writes_the_report(
    plugin_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    received = {}

    def run_demo(out: Path, **options: object) -> SuiteResult:
        received.update(options)
        store = Store(out / "results")
        add_scenes(store, "linear", 0.5)
        add_scenes(store, "protobin", 1.5)
        return SuiteResult(Plan(suites.load("demo"), (), 0, {}, ()), store, ())

    monkeypatch.setattr(demo, "run_demo", run_demo)
    assert main(["demo", "--small", "--seeds", "2"]) == 0
    output = capsys.readouterr().out
    assert "protobin ★" in output
    assert output.splitlines()[-1] == f"report: {plugin_folder / 'otoscope-demo' / 'report.html'}"
    assert received["suite"] == "demo-small"
    assert (received["seeds"], received["control"], received["finetune"]) == (2, True, False)
    assert main(["demo", "--small", "--no-control", "--out", "other"]) == 0
    assert received["control"] is False


def test_check_encoders_and_data_sets(
    plugin_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTOSCOPE_MODELS", str(plugin_folder / "models"))
    sizes = [f"--option={split}=4" for split in ("train", "validation", "test")]
    assert main(["check", "dataset", "scenes", *sizes]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("scenes: all of")
    assert lines[1:] == [
        "  rate: the rate of 0 of 12 clips was compared with an audio file; the others bind no path to load"
    ]
    (plugin_folder / "melody.py").write_text(MELODY)
    assert main(["check", "dataset", "--plugin", "melody.py"]) == 0
    assert capsys.readouterr().out.startswith("melody: all of")
    assert main(["check", "encoder", "--option", "weights=random"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "whisper: not checked, it needs --option path=VALUE" in lines
    assert any(line.startswith("not checked, their files are missing: ") and " eat," in line for line in lines)
    assert any(line.startswith("tiny: all of") for line in lines)


def test_check_metrics_and_search_strategies(plugin_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (plugin_folder / "recipes.py").write_text(
        python_block("CONTRIBUTING.md", "class TopTwo(") + python_block("CONTRIBUTING.md", "class RandomSearch(")
    )
    assert main(["check", "metric", "mAP", "accuracy"]) == 0
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["mAP", "accuracy"]
    assert main(["check", "metric", "--plugin", "recipes.py"]) == 0
    assert capsys.readouterr().out.startswith("top-2: all of")
    assert main(["check", "search", "--plugin", "recipes.py", "--option", "trials=5"]) == 0
    assert capsys.readouterr().out.startswith("random: all of")
    assert main(["check", "search", "sobol", "--option", "trials=0"]) == 1
    assert capsys.readouterr().out.count("at least one trial, found 0") == 1
    assert main(["list", "metrics", "--plugin", "recipes.py"]) == 0
    assert "top-2" in capsys.readouterr().out
    assert main(["list", "searches", "--plugin", "recipes.py"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in ("list", "sobol", "tpe", "random"))


@pytest.mark.usefixtures("plugin_folder")
def test_check_passes_good_probes_and_fails_a_bad_plugin(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "probe", "mean"]) == 0
    assert "mean: all of" in capsys.readouterr().out
    assert main(["check", "probe", "--plugin", "silent.py"]) == 1
    output = capsys.readouterr().out
    assert "gradient failed:" in output
    assert "mean" not in output.split(":")[0]
    assert main(["check", "probe", "--plugin", "toy.py", "--plugin", "silent.py", "nosuch"]) == 2


@pytest.mark.usefixtures("plugin_folder")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["probe", "--probe", "protbin"], "did you mean 'protobin'"),
        (["probe", "--probe", "linear", "--option", "nom=layer"], "did you mean 'norm'"),
        (["probe", "--probe", "linear", "--encoder", "tinny"], "did you mean 'tiny'"),
        (["probe", "--probe", "linear", "--lr", "1", "--trials", "3"], "give either these options"),
        (["list", "--plugin", "nowhere.py"], "no plug-in file"),
        (["probe", "--probe", "linearc", "--option", "bias=true"], "unknown option 'bias'"),
        (["results", "--out", "nowhere"], "no such results"),
        (["report", "--out", "nowhere"], "otoscope demo"),
        (["check", "probe", "nosuch"], "unknown probe"),
        (["list", "probes", "nosuch"], "a plug-in is loaded with --plugin FILE"),
        (
            ["extract", "--dataset", "nosuch"],
            "; a plug-in is loaded with --plugin FILE, or in Python",
        ),
        (["check", "probe", "--plugin", "toy.py"], "registers no probe"),
        (["check", "encoder", "tiny", "--option", "wieghts=random"], "did you mean 'weights'"),
        (["check", "encoder", "whisper"], "add --option path=VALUE"),
        (["check", "search", "list"], "add --option settings=VALUE"),
        (["check", "search", "sobl"], "did you mean 'sobol'"),
        (["check", "metric", "map"], "did you mean 'mAP'"),
        (["extract", "--encoder", "whisper"], "needs a value for the option 'path'"),
        (["probe", "--probe", "mhca", "--lr", "-1"], "lr must be a number above 0, found -1.0"),
        (["probe", "--probe", "mhca", "--weight-decay", "-1"], "weight_decay must be a number >= 0, found -1.0"),
        (["probe", "--probe", "linear", "--lr", "0.1"], "leave both out, or choose the option solver='adamw'"),
        (["probe", "--probe", "knn", "--lr", "0.1"], "is not trained by gradient and has no learning rate"),
        (["probe", "--probe", "linear", "--quiet", "--dataset-option", "train=0"], "split 'train' has no clips"),
        (["probe", "--probe", "mhca", "--quiet", "--option", "heads=7"], "heads=7 must divide the token width"),
        (["finetune", "--head", "knn"], "head 'knn' is not trained by gradient"),
        (["bench", "--suite", "nowhere.json"], "no suite file at nowhere.json"),
    ],
)
def test_user_errors_print_one_line_and_return_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in error_line(capsys)


def test_a_plugin_that_lacks_a_method_is_an_error_of_one_line(
    plugin_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = """
        from otoscope.datasets import Dataset, register

        @register("half")
        class Half(Dataset):
            def __init__(self):
                self.clips = []
    """
    (plugin_folder / "half.py").write_text(dedent(plugin))
    assert main(["list", "--plugin", "half.py"]) == 2
    expected = "dataset 'half' lacks 'clips': define it in the body of the class Half"
    assert expected in error_line(capsys)


def test_a_plugin_that_sets_a_property_in_its_constructor_is_an_error_of_one_line(
    plugin_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = """
        from otoscope.datasets import Dataset, register

        @register("setting")
        class Setting(Dataset):
            def __init__(self):
                self.digest = "1"

            def clips(self, split):
                return []
    """
    (plugin_folder / "setting.py").write_text(dedent(plugin))
    assert main(["extract", "--dataset", "setting", "--plugin", "setting.py"]) == 2
    line = error_line(capsys)
    assert "dataset 'setting': property 'digest' of 'Setting' object has no setter" in line
    assert "define it in the body of the class" in line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["probes", "mhca"],
            ["heads = None", "it must divide D", 'one of "none", "layer"', "0.0001 to 0.007"],
        ),
        (["probes", "linear"], ['with solver = "adamw", a search tries a learning rate of']),
        (["datasets", "scenes"], ["train = 1000", "number of scenes of each split"]),
        (["metrics", "mAP"], ["no options"]),
        (["encoders", "whisper"], ["path (no default)"]),
    ],
)
def test_list_shows_the_options_of_one_plugin(
    arguments: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", *arguments]) == 0
    text = capsys.readouterr().out
    assert all(words.casefold() in text.casefold() for words in expected), text


def test_list_shows_no_learning_rate_of_a_probe_that_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "probes", "knn"]) == 0
    assert "learning rate" not in capsys.readouterr().out


def test_a_plugin_with_a_syntax_error_is_an_error_of_one_line(
    plugin_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (plugin_folder / "broken.py").write_text("import torch\nclass (")
    assert main(["list", "--plugin", "broken.py"]) == 2
    assert "broken.py, line 2: invalid syntax" in error_line(capsys)


@pytest.mark.usefixtures("plugin_folder")
def test_a_bank_of_another_encoder_is_an_error_without_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_toy("extract") == 0
    capsys.readouterr()
    bank = "otoscope-runs/banks/ear-tones-last"
    assert run_toy("probe", "--probe", "linear", "--encoder-option", "seed=1", "--bank", bank) == 2
    assert "encoder_digest: the encoder has other weights" in capsys.readouterr().err


@pytest.mark.usefixtures("plugin_folder")
@pytest.mark.filterwarnings("always::otoscope.warning.OtoscopeWarning")
@pytest.mark.parametrize("command", [["extract"], ["probe", "--probe", "mean", "--epochs", "1"]])
def test_another_checkpoint_of_an_encoder_gets_a_bank_beside_the_former_one(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, build = Path("otoscope-runs/banks"), Ear.__init__
    assert run_toy(*command) == 0
    assert [path.name for path in folder.iterdir()] == ["ear-tones-last"]
    files = visible_files(folder / "ear-tones-last")

    @wraps(build)
    def other_weights(self: Ear, **options: int) -> None:
        build(self, **options)
        self.patch.weight.data += 1

    monkeypatch.setattr(Ear, "__init__", other_weights)
    capsys.readouterr()
    for warned in (True, False):
        assert run_toy(*command) == 0
        assert ("is that of another encoder of this name" in capsys.readouterr().err) == warned
        first, second = sorted(folder.iterdir())
        assert (first.name, second.name[:-12]) == ("ear-tones-last", "ear-tones-last-")
    assert visible_files(first) == files
    assert banks.open(second).identity.encoder_digest != banks.open(first).identity.encoder_digest
    assert run_toy("extract", "--bank", str(first)) == 2
    monkeypatch.setattr(Ear, "__init__", build)
    monkeypatch.setattr(Ear, "embed", None)
    assert run_toy(*command) == 0
    assert len(list(folder.iterdir())) == 2


@pytest.mark.usefixtures("plugin_folder")
def test_the_table_of_what_was_measured_is_the_last_one(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["probe", "--probe", "mean", "--epochs", "1"]
    assert run_toy(*command, "--encoder-option", "seed=1") == 0
    for options, last in ([], "ear"), (["--encoder-option", "seed=1"], "ear-seed=1"):
        capsys.readouterr()
        assert run_toy(*command, *options) == 0
        titles = [line for line in capsys.readouterr().out.splitlines() if " on tones" in line]
        assert [title.partition(" on ")[0] for title in titles] == [*{"ear", "ear-seed=1"} - {last}, last]


@pytest.mark.usefixtures("plugin_folder")
def test_debug_and_bugs_show_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no such results"):
        main(["results", "--debug"])

    def failing(*_: object, **__: object) -> Store:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(demo, "run_demo", failing)
    with pytest.raises(ZeroDivisionError):
        main(["demo"])

    def interrupted(*_: object, **__: object) -> Store:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run_demo", interrupted)
    assert main(["demo"]) == 130


@pytest.mark.parametrize(
    "arguments",
    [
        ["probe", "--probe", "x", "--seeds", "0"],
        ["probe", "--probe", "x", "--option", "k"],
        ["probe", "--probe", "x", "--device", "gpu"],
        ["extract", "--layers", "first"],
        [],
    ],
)
def test_the_parser_explains_malformed_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: otoscope" in capsys.readouterr().err


def test_a_closed_pipe_is_no_error(plugin_folder: Path) -> None:
    add_scenes(Store(plugin_folder / "otoscope-demo" / "results"), "linear", 1.0)
    code = "from otoscope.cli import main; import sys; sys.exit(main(['results', '--format', 'json']))"
    shell = f'set -o pipefail; {sys.executable} -c "{code}" | head -c 1'
    result = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("[", "")


def test_a_probe_that_cannot_be_built_is_reported_also_with_quiet(
    plugin_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    probes = ["linear", {"name": "mhca", "options": {"heads": 7}}]
    suite = {"about": "toys", "encoders": ["ear"], "datasets": ["tones"], "probes": probes, "epochs": 1}
    (plugin_folder / "toys.json").write_text(json.dumps(suite))
    assert main(["bench", "--suite", "toys.json", "--plugin", "toy.py", "--quiet"]) == 1
    captured = capsys.readouterr()
    assert "linear" in captured.out
    assert captured.err.startswith("missing study 'ear x tones, mhca': probe 'mhca': heads=7 must divide")
    assert main(["rank", "--probe", "mhca"]) == 2
    assert "no such results in otoscope-runs/results; there are encoders ear" in error_line(capsys)
