"""The README's examples run: an encoder, a data set and a probe of one's own, as short as it says."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from otoscope import TrainingConfig, bank, datasets, encoders, fit
from otoscope.probes.contract import check_probe
from otoscope.registry import load_plugin

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def block(holding: str) -> str:
    (found,) = [text for text in BLOCKS if holding in text]
    return found


@pytest.fixture
def plugins(isolated_registries: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # noqa: ARG001
    """The README's three plug-ins, registered for one test."""
    monkeypatch.chdir(tmp_path)
    for name in ("Mine", "Garden", "Loudest"):
        path = tmp_path / f"readme_{name.lower()}.py"
        path.write_text(block(f"class {name}("))
        load_plugin(path)


@pytest.mark.usefixtures("plugins")
def test_own_encoder_own_data_own_probe(tmp_path: Path) -> None:
    os.mkdir("garden")
    rng = np.random.default_rng(0)
    for split, size in (("train", 12), ("validation", 6), ("test", 6)):
        rows = []
        for i in range(size):
            soundfile.write(f"garden/{split}{i}.wav", 0.1 * rng.standard_normal(8000), 16000)
            rows.append(f"{split}{i}.wav,{('blackbird', 'robin', 'blackbird+robin')[i % 3]}")
        Path(f"garden/{split}.csv").write_text("\n".join(rows) + "\n")
    held = bank.extract(encoders.create("mine"), datasets.create("garden"), tmp_path / "bank", progress=False)
    fitted = fit("loudest", held, TrainingConfig(epochs=2))
    assert fitted.predict_logits(held.split("validation")).shape == (6, 2)
    assert [result.message for result in check_probe("loudest") if not result.passed] == []


def test_they_are_as_short_as_it_says() -> None:
    for name, most in (("Mine", 10), ("Garden", 10), ("Loudest", 60)):
        body = block(f"class {name}(").split("@register", 1)[1]
        assert len(body.strip().splitlines()) <= most + 1, name
