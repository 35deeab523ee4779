"""The program that trained `tiny`: mixing, masks, acoustic units, and resuming an interrupted run."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

ASSETS = Path(__file__).parents[1] / "assets"
needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon needs torch 2.9")


@pytest.fixture
def pretrain(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """assets/pretrain.py in a small size: few units, small batches."""
    monkeypatch.syspath_prepend(str(ASSETS))
    program, units = importlib.import_module("pretrain"), importlib.import_module("units")
    for module in (program, units):
        monkeypatch.setattr(module, "GRAINS", (2, 3, 4))
    monkeypatch.setattr(units, "COMPONENTS", 4)
    phases = (program.Phase(0.5, 16, 4, 2), program.Phase(1.0, 64, 2, 3))
    monkeypatch.setattr(program, "PHASES", phases)
    return program


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Twelve sounds of three kinds, in the form that assets/corpus.py writes."""
    folder, rng, audio, index = tmp_path / "corpus", np.random.default_rng(0), [], []
    folder.mkdir()
    for i in range(12):
        length = int(rng.integers(4000, 60000))
        tone = np.sin(2 * np.pi * (100 + 150 * i) * np.arange(length) / 16000) * np.exp(-np.arange(length) / 8000)
        audio.append((9000 * tone + 300 * rng.standard_normal(length)).astype(np.int16))
        start = sum(map(len, audio[:-1]))
        index.append({"start": start, "length": length, "kind": ("event", "music", "speech")[i % 3]})
    np.save(folder / "audio.npy", np.concatenate(audio))
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def arguments(corpus: Path, out: Path, steps: int) -> argparse.Namespace:
    return argparse.Namespace(corpus=corpus, out=out, steps=steps, lr=1e-3, seed=0, device="cpu")


def test_a_batch_has_the_documented_contents(pretrain: ModuleType, corpus: Path) -> None:
    phase = pretrain.PHASES[0]
    batch = pretrain.draw_batch(pretrain.Corpus(corpus), phase, np.random.default_rng(0))
    assert batch.mixed.shape == batch.clean.shape == (4, 256, 128)
    assert batch.unit.shape == (len(batch.of), 3)
    assert (batch.unit < torch.tensor([2, 3, 4])).all()
    summed = torch.zeros(4, 128).index_add_(0, batch.of, batch.share)
    assert (summed <= 1 + 1e-4).all()
    assert (batch.mixed >= batch.clean - 1e-4).all()  # noise adds power
    again = pretrain.draw_batch(pretrain.Corpus(corpus), phase, np.random.default_rng(0))
    assert torch.equal(batch.mixed, again.mixed)


def test_pitch_shift_by_zero_and_by_an_octave(pretrain: ModuleType) -> None:
    mel = torch.full((1, 4, 128), -15.0)
    mel[..., 40] = 0
    same = pretrain.pitch_shifted(mel, torch.ones(1, 1, 1))
    assert torch.allclose(same, mel, atol=1e-2)
    octave = pretrain.pitch_shifted(mel, torch.full((1, 1, 1), 2.0))
    low, high = 1127 * np.log1p(20 / 700), 1127 * np.log1p(8000 / 700)
    hz = 700 * np.expm1((low + (high - low) * 41 / 129) / 1127)
    expected = (1127 * np.log1p(2 * hz / 700) - low) / (high - low) * 129 - 1
    assert abs(int(octave[0, 0].argmax()) - expected) <= 1


def test_masks_are_permutations_that_begin_with_blocks(pretrain: ModuleType) -> None:
    order = pretrain.block_masks(5, 16, 128, torch.Generator().manual_seed(0))
    assert torch.equal(order.sort(1).values, torch.arange(128).expand(5, 128))


@needs_muon
def test_an_interrupted_run_has_the_same_result(
    pretrain: ModuleType, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain.train(arguments(corpus, tmp_path / "whole", 4))
    monkeypatch.setattr(pretrain, "SAVE_EVERY", 2)
    one_step = pretrain.one_step

    def killed(*args: object) -> list[float]:
        if args[4] == 3:
            raise KeyboardInterrupt
        return one_step(*args)

    monkeypatch.setattr(pretrain, "one_step", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain.train(arguments(corpus, tmp_path / "stopped", 4))
    monkeypatch.setattr(pretrain, "one_step", one_step)
    pretrain.train(arguments(corpus, tmp_path / "stopped", 4))
    whole, stopped = (torch.load(tmp_path / n / "checkpoint.pt", weights_only=True) for n in ("whole", "stopped"))
    assert stopped["step"] == 4
    for name, tensor in whole["model"].items():
        assert torch.equal(tensor, stopped["model"][name]), name


@needs_muon
def test_the_exported_file_has_the_format_that_ships(pretrain: ModuleType, corpus: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from otoscope.encoders.tiny import PatchViT

    pretrain.train(arguments(corpus, tmp_path / "run", 25))
    pretrain.export(tmp_path / "run", tmp_path)
    PatchViT().load_state_dict({k: v.float() for k, v in load_file(tmp_path / "tiny.safetensors").items()})
    assert (tmp_path / "tiny-loss.png").stat().st_size > 1000
