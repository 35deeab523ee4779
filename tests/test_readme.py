"""The examples of README.md run: an encoder, a data set and a probe, as short as the headings say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import soundfile

from helpers_docs import python_block
from otoscope import bank, datasets, encoders, fit, load_plugin, probes
from otoscope.datasets.contract import CONTRACT as DATASET
from otoscope.encoders.contract import CONTRACT as ENCODER
from otoscope.probes.contract import CONTRACT as PROBE


def block(class_name: str) -> str:
    return python_block("README.md", f"class {class_name}(")


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The three plug-ins of the README, registered for one test, and recordings for its data set."""
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        for package, name in ((encoders, "Mine"), (datasets, "Garden"), (probes, "Loudest")):
            stack.enter_context(package.registry.isolated())
            path = tmp_path / f"readme_{name.lower()}.py"
            path.write_text(block(name))
            load_plugin(path)
        Path("garden").mkdir()
        rng = np.random.default_rng(0)
        for split, size in (("train", 12), ("validation", 6), ("test", 6)):
            rows = []
            for i in range(size):
                soundfile.write(f"garden/{split}{i}.wav", 0.1 * rng.standard_normal(8000), 16000)
                rows.append(f"{split}{i}.wav,{('blackbird', 'robin', 'blackbird+robin')[i % 3]}")
            Path(f"garden/{split}.csv").write_text("\n".join(rows) + "\n")
        yield


@pytest.mark.usefixtures("plugins")
def test_encoder_dataset_and_probe_work_together(tmp_path: Path) -> None:
    stored = bank.extract(encoders.create("mine"), datasets.create("garden"), tmp_path / "bank", progress=False)
    fitted = fit("loudest", stored)
    assert fitted.predict_logits(stored.split("validation")).shape == (6, 2)


@pytest.mark.usefixtures("plugins")
def test_dataset_takes_the_rate_of_the_file_and_any_file_name() -> None:
    soundfile.write("garden/my, bird.wav", np.zeros(48000), 48000)
    Path("garden/train.csv").write_text("my, bird.wav,robin\n")
    (clip,) = datasets.create("garden").clips("train")
    assert (clip.id, clip.rate, len(clip.audio), clip.labels) == ("my, bird.wav", 48000, 48000, ("robin",))


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(("contract", "name"), [(ENCODER, "mine"), (DATASET, "garden"), (PROBE, "loudest")])
def test_every_plugin_passes_its_contract(contract, name: str) -> None:
    assert [f"{result.check}: {result.message}" for result in contract.run(name, name) if not result.passed] == []


def test_examples_are_as_short_as_the_headings_say() -> None:
    for name, most in (("Mine", 10), ("Garden", 10), ("Loudest", 60)):
        body = block(name).split("@register", 1)[1]
        assert len(body.strip().splitlines()) <= most + 1, name
