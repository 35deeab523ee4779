"""The examples of README.md run: an encoder and a probe, as short as the headings say, and a data set in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import soundfile

from helpers_docs import python_block, shell_block
from otoscope import bank, datasets, encoders, fit, load_plugin, probes
from otoscope.cli import main
from otoscope.encoders.contract import CONTRACT as ENCODER
from otoscope.probes.contract import CONTRACT as PROBE


def block(class_name: str) -> str:
    return python_block("README.md", f"class {class_name}(")


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The two plug-ins of the README, registered for one test, and a folder with recordings and a table."""
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        for package, name in ((encoders, "Mine"), (probes, "Loudest")):
            stack.enter_context(package.registry.isolated())
            path = tmp_path / f"readme_{name.lower()}.py"
            path.write_text(block(name))
            load_plugin(path)
        Path("garden").mkdir()
        rng = np.random.default_rng(0)
        rows = ["path,labels,split"]
        for split, size in (("train", 12), ("validation", 6), ("test", 6)):
            for i in range(size):
                soundfile.write(f"garden/{split}{i}.wav", 0.1 * rng.standard_normal(8000), 16000)
                rows.append(f"{split}{i}.wav,{('blackbird', 'robin', 'blackbird;robin')[i % 3]},{split}")
        Path("garden/clips.csv").write_text("\n".join(rows) + "\n")
        yield


@pytest.mark.usefixtures("plugins")
def test_encoder_dataset_and_probe_work_together(tmp_path: Path) -> None:
    stored = bank.extract(encoders.create("mine"), datasets.create("garden"), tmp_path / "bank", progress=False)
    fitted = fit("loudest", stored)
    assert fitted.predict_logits(stored.split("validation")).shape == (6, 2)


@pytest.mark.usefixtures("plugins")
def test_dataset_takes_the_rate_of_the_file_and_any_file_name() -> None:
    soundfile.write("garden/my, bird.wav", np.zeros(48000), 48000)
    with Path("garden/clips.csv").open("a") as file:
        file.write('"my, bird.wav",robin,train\n')
    clip = datasets.create("garden").clips("train")[-1]
    assert (clip.id, clip.rate, len(clip.audio), clip.labels) == ("my, bird.wav", 48000, 48000, ("robin",))


@pytest.mark.usefixtures("plugins")
def test_commands_with_a_path(capsys: pytest.CaptureFixture[str]) -> None:
    commands = [line.partition("#")[0].split() for line in shell_block("--dataset garden").splitlines()]
    for program, *arguments in commands:
        assert program == "otoscope"
        quiet = ["--quiet", "--encoder", "mine"] if arguments[0] == "probe" else []
        assert main([*arguments, *quiet]) == 0
    assert "multi-label, 2 classes" in capsys.readouterr().out


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(("contract", "name"), [(ENCODER, "mine"), (PROBE, "loudest")])
def test_every_plugin_passes_its_contract(contract, name: str) -> None:
    assert [f"{result.check}: {result.message}" for result in contract.run(name, name) if not result.passed] == []


def test_examples_are_as_short_as_the_headings_say() -> None:
    for name, most in (("Mine", 10), ("Loudest", 60)):
        body = block(name).split("@register", 1)[1]
        assert len(body.strip().splitlines()) <= most + 1, name
