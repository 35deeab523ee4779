"""The least that a bank must hold for some probes, what else it could hold, and the command line of both."""

import re

import pytest

from otoscope import bank as banks
from otoscope import probes
from otoscope.bank import Requirements
from otoscope.bank import requirements as requirements
from otoscope.bench import resolve, suites
from otoscope.probes import registry
from otoscope.registry import UnknownNameError, load_plugin
from otoscope.train import TrainingConfig, fit
from test_bank import Sounds, Toy, quiet
from toys import Ear, Tones, run_toy

SMALL = {"cgp": {"prototypes": 9}, "ep": {"queries": 4}, "coca": {"heads": 3}, "selfattn": {"heads": 3}}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["linear"], Requirements("last", "pooled")),
        (["mean", "knn", "mlp"], Requirements("last", "pooled")),
        (["wsum"], Requirements("all", "pooled")),
        (["linear", "protobin"], Requirements("last", "tokens")),
        (["protobin", "wsum"], Requirements("all", "tokens")),
        (["linear", "protobin", "cgp"], Requirements("all", "tokens")),
    ],
)
def test_needs_follow_from_what_probes_read(names, expected):
    assert requirements(names) == requirements(names[::-1]) == expected


def test_needs_of_nothing_and_of_unknown_probes():
    with pytest.raises(UnknownNameError, match="did you mean 'protobin'"):
        requirements(["linear", "protbin"])
    with pytest.raises(ValueError, match="got no names"):
        requirements([])


@pytest.mark.parametrize("name", [n for n in probes.names() if not issubclass(registry.get(n), probes.FrameProbe)])
def test_the_least_bank_serves_its_probe_as_a_larger_one_does(tmp_path, name):
    need, options = requirements([name]), SMALL.get(name)
    whole = banks.extract(Ear(), Tones(), tmp_path / "a", layers="all", dtype="float32", progress=False)
    least = banks.extract(
        Ear(), Tones(), tmp_path / "b", layers=need.layers, content=need.content, dtype="float32", progress=False
    )
    assert need.met_by(least.identity, 2)
    assert need.met_by(whole.identity, 2)
    a, b = (fit(name, bank, TrainingConfig(epochs=1), options=options) for bank in (least, whole))
    assert a.history[0]["validation"] == pytest.approx(b.history[0]["validation"], abs=1e-5)


def test_what_is_not_met(tmp_path):
    pooled = quiet(Toy(), Sounds(), tmp_path / "a", content="pooled").identity
    last = quiet(Toy(), Sounds(), tmp_path / "b").identity
    first = quiet(Toy(), Sounds(), tmp_path / "c", layers=[0]).identity
    every = quiet(Toy(), Sounds(), tmp_path / "d", layers="all").identity
    met = {
        Requirements("last", "pooled"): [True, True, False, True],
        Requirements("last", "tokens"): [False, True, False, True],
        Requirements("all", "tokens"): [False, False, False, True],
    }
    for need, expected in met.items():
        assert [need.met_by(identity, 3) for identity in (pooled, last, first, every)] == expected


# What it would cost otherwise


def stored(bank):
    return bank.size.bytes


def in_bytes(words):
    number, unit = words.strip("[]").split()
    return float(number) * {"B": 1, "kB": 1e3, "MB": 1e6}[unit]


def test_what_is_told_is_what_such_a_bank_takes(tmp_path, capsys):
    data = Sounds()
    banks.extract(Toy(), data, tmp_path / "b", layers=[2, 0], dtype="bfloat16")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("  ")]
    dtypes = lines[0].split()
    assert dtypes == ["float16", "int8", "bfloat16"]
    told = {}
    for line in lines[1:]:
        content, count, cells = re.fullmatch(r"  (pooled|tokens), (\d) layers? +(.*)", line).groups()
        for dtype, cell in zip(dtypes, re.findall(r"\[?[\d.]+ k?B\]?", cells), strict=True):
            told[content, int(count), dtype] = cell
    assert len(told) == 2 * 3 * 3
    assert [kind for kind, cell in told.items() if "[" in cell] == [("tokens", 2, "bfloat16")]
    for i, ((content, count, dtype), cell) in enumerate(told.items()):
        bank = quiet(Toy(), data, tmp_path / str(i), layers=list(range(count)), content=content, dtype=dtype)
        assert in_bytes(cell) == pytest.approx(stored(bank), rel=6e-3)


# On the command line


@pytest.fixture
def said(capsys):
    def read():
        return capsys.readouterr().out.strip().splitlines()[0]

    return read


@pytest.mark.usefixtures("plugin_folder")
def test_extract_for_pooled_probes_and_probing_it(said):
    assert run_toy("extract", "--for", "linear,mean") == 0
    path = "otoscope-runs/banks/ear-tones-last-pooled"
    assert said().startswith(f"{path}: train, validation, test of tones by ear, pooled in float16, ")
    assert banks.open(path).identity.content == "pooled"
    for name in ("linear", "knn"):
        assert run_toy("probe", "--probe", name, "--epochs", "1", "--bank", path) == 0
    assert run_toy("probe", "--probe", "protobin", "--epochs", "1", "--bank", path) == 2


@pytest.mark.usefixtures("plugin_folder")
def test_one_bank_for_probes_of_every_kind(said, capsys):
    assert run_toy("extract", "--for", "linear,protobin,cgp", "--dtype", "int8") == 0
    path = "otoscope-runs/banks/ear-tones-all-int8"
    assert said().startswith(f"{path}: ")
    identity = banks.open(path).identity
    assert (identity.layers, identity.content, identity.dtype) == ((0, 1), "tokens", "int8")
    for name in ("linear", "protobin"):
        assert run_toy("probe", "--probe", name, "--epochs", "1", "--bank", path) == 0
    assert run_toy("probe", "--probe", "cgp", "--epochs", "1", "--bank", path, "--option", "prototypes=5") == 0
    assert run_toy("probe", "--probe", "linear", "--epochs", "1", "--bank", path, "--encoder-option", "seed=1") == 2
    assert "encoder_digest: requested" in capsys.readouterr().err


@pytest.mark.usefixtures("plugin_folder")
def test_a_bank_of_another_dtype_makes_another_cell(capsys):
    assert run_toy("extract", "--for", "linear", "--dtype", "int8") == 0
    for bank, done in (((), 0), (("--bank", "otoscope-runs/banks/ear-tones-last-pooled-int8"), 0), ((), 1)):
        capsys.readouterr()
        assert run_toy("probe", "--probe", "linear", "--epochs", "1", *bank) == 0
        assert ("nothing to do: all 1 cells were done before" in capsys.readouterr().out) == bool(done)


@pytest.mark.usefixtures("plugin_folder")
def test_a_bank_that_stores_too_little_is_refused(capsys):
    assert run_toy("extract", "--for", "protobin") == 0
    bank = "otoscope-runs/banks/ear-tones-last"
    assert run_toy("probe", "--probe", "cgp", "--epochs", "1", "--bank", bank) == 2
    assert "layers: requested [0, 1], stored [1]" in capsys.readouterr().err


@pytest.mark.usefixtures("plugin_folder")
def test_layers_are_named_or_follow_from_probes(capsys):
    with pytest.raises(SystemExit):
        run_toy("extract", "--for", "linear", "--layers", "all")
    assert "not allowed with argument" in capsys.readouterr().err
    assert run_toy("extract", "--for", "linear,protbin") == 2
    assert "did you mean 'protobin'" in capsys.readouterr().err


# In a suite


@pytest.mark.usefixtures("plugin_folder")
def test_a_suite_of_pooled_probes_has_pooled_banks(tmp_path):
    load_plugin("toy.py")

    def found(*names):
        suite = suites.parse("own", {"about": "", "encoders": ["ear"], "datasets": ["tones"], "probes": list(names)})
        (subject,) = resolve.find(suite, tmp_path / "banks")[0].values()
        return subject

    pooled, whole, deep = found("linear", "mean"), found("linear", "protobin"), found("linear", "cgp", "finetune")
    assert [(s.identity.layers, s.identity.content) for s in (pooled, whole, deep)] == [
        ((1,), "pooled"),
        ((1,), "tokens"),
        ((0, 1), "tokens"),
    ]
    assert len({subject.path for subject in (pooled, whole, deep)}) == 3
    assert pooled.size.bytes < whole.size.bytes < deep.size.bytes
    held = pooled.extract()
    assert held.identity.content == "pooled"
    assert stored(held) == pooled.size.bytes
    assert fit("linear", held, TrainingConfig(epochs=1)).history
    assert found("mean", "linear").size.bytes == 0
