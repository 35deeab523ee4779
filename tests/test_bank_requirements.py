"""What a bank must store for some probes, the size of its alternatives, and the options of the command line."""

import re

import pytest

from helpers_banks import Sounds, Toy, extract_quietly
from otoscope import bank as banks
from otoscope import datasets, encoders, load_plugin, probes
from otoscope.bank import Requirements, requirements
from otoscope.bench import suites
from otoscope.bench.resolve import resolve
from otoscope.probes import registry
from otoscope.registry import UnknownNameError
from otoscope.train import TrainingConfig, fit
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
def test_requirements_follow_from_what_probes_read(names, expected):
    assert requirements(names) == requirements(names[::-1]) == expected


def test_no_probes_and_unknown_probes_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'protobin'"):
        requirements(["linear", "protbin"])
    with pytest.raises(ValueError, match="got none"):
        requirements([])


@pytest.mark.parametrize("name", [n for n in probes.names() if not issubclass(registry.get(n), probes.FrameProbe)])
def test_a_probe_gives_the_same_logits_with_the_smallest_bank_and_with_a_larger_one(tmp_path, name):
    required, options = requirements([name]), SMALL.get(name)
    whole = banks.extract(Ear(), Tones(), tmp_path / "a", layers="all", dtype="float32", progress=False)
    least = banks.extract(
        Ear(),
        Tones(),
        tmp_path / "b",
        layers=required.layers,
        content=required.content,
        dtype="float32",
        progress=False,
    )
    assert required.met_by(least.identity, 2)
    assert required.met_by(whole.identity, 2)
    a, b = (fit(name, bank, TrainingConfig(epochs=1), options=options) for bank in (least, whole))
    assert a.history[0]["validation"] == pytest.approx(b.history[0]["validation"], abs=1e-5)


def test_requirements_are_met_by_banks_that_store_enough(tmp_path):
    pooled = extract_quietly(Toy(), Sounds(), tmp_path / "a", content="pooled").identity
    last = extract_quietly(Toy(), Sounds(), tmp_path / "b").identity
    first = extract_quietly(Toy(), Sounds(), tmp_path / "c", layers=[0]).identity
    every = extract_quietly(Toy(), Sounds(), tmp_path / "d", layers="all").identity
    met = {
        Requirements("last", "pooled"): [True, True, False, True],
        Requirements("last", "tokens"): [False, True, False, True],
        Requirements("all", "tokens"): [False, False, False, True],
    }
    for required, expected in met.items():
        assert [required.met_by(identity, 3) for identity in (pooled, last, first, every)] == expected


# Sizes of the alternatives


def stored(bank):
    return bank.size.bytes


def in_bytes(size):
    number, unit = size.strip("[]").split()
    return float(number) * {"B": 1, "kB": 1e3, "MB": 1e6}[unit]


def test_announced_sizes_are_those_of_the_banks(tmp_path, capsys):
    data = Sounds()
    banks.extract(Toy(), data, tmp_path / "b", layers=[2, 0], dtype="bfloat16")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("  ")]
    dtypes = lines[0].split()
    assert dtypes == ["float16", "int8", "bfloat16"]
    announced = {}
    for line in lines[1:]:
        content, count, sizes = re.fullmatch(r"  (pooled|tokens), (\d) layers? +(.*)", line).groups()
        for dtype, size in zip(dtypes, re.findall(r"\[?[\d.]+ k?B\]?", sizes), strict=True):
            announced[content, int(count), dtype] = size
    assert len(announced) == 2 * 3 * 3
    assert [kind for kind, size in announced.items() if "[" in size] == [("tokens", 2, "bfloat16")]
    for i, ((content, count, dtype), size) in enumerate(announced.items()):
        bank = extract_quietly(Toy(), data, tmp_path / str(i), layers=list(range(count)), content=content, dtype=dtype)
        assert in_bytes(size) == pytest.approx(stored(bank), rel=6e-3)


# On the command line


@pytest.fixture
def first_line(capsys):
    def read():
        return capsys.readouterr().out.strip().splitlines()[0]

    return read


@pytest.mark.usefixtures("plugin_folder")
def test_extract_for_pooled_probes_and_train_on_the_bank(first_line):
    assert run_toy("extract", "--for", "linear,mean") == 0
    path = "otoscope-runs/banks/ear-tones-last-pooled"
    assert first_line().startswith(f"{path}: train, validation, test of tones by ear, pooled in float16, ")
    assert banks.open(path).identity.content == "pooled"
    for name in ("linear", "knn"):
        assert run_toy("probe", "--probe", name, "--epochs", "1", "--bank", path) == 0
    assert run_toy("probe", "--probe", "protobin", "--epochs", "1", "--bank", path) == 2


@pytest.mark.usefixtures("plugin_folder")
def test_one_bank_is_used_by_probes_with_different_requirements(first_line, capsys):
    assert run_toy("extract", "--for", "linear,protobin,cgp", "--dtype", "int8") == 0
    path = "otoscope-runs/banks/ear-tones-all-int8"
    assert first_line().startswith(f"{path}: ")
    identity = banks.open(path).identity
    assert (identity.layers, identity.content, identity.dtype) == ((0, 1), "tokens", "int8")
    for name in ("linear", "protobin"):
        assert run_toy("probe", "--probe", name, "--epochs", "1", "--bank", path) == 0
    assert run_toy("probe", "--probe", "cgp", "--epochs", "1", "--bank", path, "--option", "prototypes=5") == 0
    assert run_toy("probe", "--probe", "linear", "--epochs", "1", "--bank", path, "--encoder-option", "seed=1") == 2
    assert "encoder_digest: the encoder has other weights" in capsys.readouterr().err


@pytest.mark.usefixtures("plugin_folder")
def test_a_bank_of_another_dtype_gives_another_run(capsys):
    assert run_toy("extract", "--for", "linear", "--dtype", "int8") == 0
    for bank, done in (((), 0), (("--bank", "otoscope-runs/banks/ear-tones-last-pooled-int8"), 0), ((), 1)):
        capsys.readouterr()
        assert run_toy("probe", "--probe", "linear", "--epochs", "1", *bank) == 0
        assert ("nothing to do: all 1 runs are finished" in capsys.readouterr().out) == bool(done)


@pytest.mark.usefixtures("plugin_folder")
def test_a_bank_that_stores_too_little_is_refused(capsys):
    assert run_toy("extract", "--for", "protobin") == 0
    bank = "otoscope-runs/banks/ear-tones-last"
    assert run_toy("probe", "--probe", "cgp", "--epochs", "1", "--bank", bank) == 2
    assert "layers: requested [0, 1], stored [1]" in capsys.readouterr().err


@pytest.mark.usefixtures("plugin_folder")
def test_layers_are_given_or_determined_by_the_probes(capsys):
    with pytest.raises(SystemExit):
        run_toy("extract", "--for", "linear", "--layers", "all")
    assert "not allowed with argument" in capsys.readouterr().err
    assert run_toy("extract", "--for", "linear,protbin") == 2
    assert "did you mean 'protobin'" in capsys.readouterr().err


# In a suite


@pytest.mark.usefixtures("plugin_folder")
def test_a_suite_of_pooled_probes_has_pooled_banks(tmp_path):
    load_plugin("toy.py")

    def resolved(*names):
        suite = suites.parse(
            "example", {"about": "", "encoders": ["ear"], "datasets": ["tones"], "probes": list(names)}
        )
        (pair,) = resolve(suite, tmp_path / "banks")[0].values()
        return pair

    pooled, whole, deep = (
        resolved("linear", "mean"),
        resolved("linear", "protobin"),
        resolved("linear", "cgp", "finetune"),
    )
    assert [(s.identity.layers, s.identity.content) for s in (pooled, whole, deep)] == [
        ((1,), "pooled"),
        ((1,), "tokens"),
        ((0, 1), "tokens"),
    ]
    assert len({pair.path for pair in (pooled, whole, deep)}) == 3
    assert pooled.size.bytes < whole.size.bytes < deep.size.bytes
    bank = pooled.extract()
    assert bank.identity.content == "pooled"
    assert stored(bank) == pooled.size.bytes
    assert fit("linear", bank, TrainingConfig(epochs=1)).history
    assert resolved("mean", "linear").size.bytes == 0


class UnequalSounds(Sounds):
    """Clips of 8 steps, except the first one of each 16, which has one step."""

    def __init__(self):
        super().__init__(counts=(16, 1, 1), lengths=(10, *[80] * 15))


@pytest.mark.usefixtures("isolated_registries")
def test_the_plan_of_a_suite_and_the_extraction_estimate_the_same_size(tmp_path, capsys):
    encoders.register("toy")(Toy)
    datasets.register("sounds")(UnequalSounds)
    suite = suites.parse("s", {"about": "", "encoders": ["toy"], "datasets": ["sounds"], "probes": ["protobin"]})
    (pair,) = resolve(suite, tmp_path / "banks")[0].values()
    assert pair.size.steps == 8
    bank = pair.extract(progress=True)
    announced = re.search(r": ([\d.]+ k?B), ", capsys.readouterr().err)[1]
    assert in_bytes(announced) == pytest.approx(pair.size.bytes, rel=6e-3)
    assert pair.size.bytes == bank.size.bytes
