"""The encoder `timm` with a stand-in for the package that has the part of its interface that is used.

The package itself cannot be imported without torchvision. The stand-in returns intermediates as a vision transformer of
timm 1.0 does: maps [B, D, T, F], and prefix tokens beside them.
"""

from __future__ import annotations

import sys
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from otoscope import encoders
from otoscope.audio.fbank import fbank
from otoscope.encoders.contract import CONTRACT
from otoscope.types import AudioBatch

FRAMES, BINS, PATCH, WIDTH = 96, 32, 16, 12


class Transformer(nn.Module):
    """Two blocks over patches of a log-mel image, with `prefixes` tokens before them."""

    def __init__(self, prefixes: int, channels: int) -> None:
        super().__init__()
        self.pretrained_cfg = {"input_size": (channels, FRAMES, BINS)}
        self.patch_embed = nn.Conv2d(1, WIDTH, PATCH, PATCH)
        self.prefix = nn.Parameter(torch.randn(1, prefixes, WIDTH)) if prefixes else None
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(WIDTH, 2, 24, 0.0, batch_first=True) for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)

    def forward_intermediates(
        self, x: Tensor, *, return_prefix_tokens: bool, output_fmt: str
    ) -> tuple[Tensor, list[Any]]:
        assert return_prefix_tokens
        assert output_fmt == "NCHW"
        grid = self.patch_embed(x)
        x = grid.flatten(2).transpose(1, 2)
        count = 0 if self.prefix is None else self.prefix.shape[1]
        if self.prefix is not None:
            x = torch.cat([self.prefix.expand(len(x), -1, -1), x], 1)
        states: list[Any] = []
        for block in self.blocks:
            x = block(x)
            image = x[:, count:].transpose(1, 2).unflatten(2, grid.shape[2:])
            states.append((image, x[:, :count]) if count else image)
        return self.norm(x), states


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module `timm` with three models."""

    def create_model(name: str, *, pretrained: bool, num_classes: int) -> nn.Module:
        assert num_classes == 0
        if name == "resnet":
            return nn.Linear(1, 1)
        if pretrained:
            torch.manual_seed(3)
        return Transformer({"cls": 1, "grid": 0, "image": 1}[name], 3 if name == "image" else 1)

    module = ModuleType("timm")
    module.create_model = create_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", module)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize("check", CONTRACT.checks)
@pytest.mark.parametrize("model", ["cls", "grid"])
def test_contract(check: str, model: str, stand_in: None) -> None:  # noqa: ARG001
    timm = partial(encoders.create, "timm", model=model)
    assert [result.message for result in CONTRACT.run(model, timm, [check]) if not result.passed] == []


def test_tokens_are_those_of_the_blocks(stand_in: None) -> None:  # noqa: ARG001
    encoder = encoders.create("timm:cls").eval()
    assert str(encoder.shape) == "TokenShape(layers=2, freq=2, dim=12, has_cls=True, frame_rate=6.25)"
    wave = noise(8000)
    tokens = encoder.encode(AudioBatch.of([wave], 16000))
    frames = fbank(torch.from_numpy(wave)[None], bins=BINS)
    image = (nn.functional.pad(frames, (0, 0, 0, FRAMES - frames.shape[1])) + 4.2677393) / (2 * 4.5689974)
    with torch.no_grad():
        last, states = encoder.body.forward_intermediates(image[:, None], return_prefix_tokens=True, output_fmt="NCHW")
    steps = -(-frames.shape[1] // PATCH)
    assert tokens.mask.tolist() == [[True] * steps]
    assert torch.allclose(tokens.x[0, 0], states[0][0][0].permute(1, 2, 0)[:steps], atol=1e-5)
    assert torch.allclose(tokens.x[0, 1].flatten(0, 1), last[0, 1 : 1 + 2 * steps], atol=1e-5)
    assert tokens.cls is not None
    assert torch.allclose(tokens.cls[0], torch.stack([states[0][1][0, 0], last[0, 0]]), atol=1e-5)


def test_models_that_do_not_fit(stand_in: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    with pytest.raises(ValueError, match="the input of image has 3 channels"):
        encoders.create("timm:image")
    with pytest.raises(ValueError, match="resnet has no forward_intermediates or blocks or norm"):
        encoders.create("timm:resnet")
    with pytest.raises(ValueError, match="weights='best'; allowed: 'pretrained', 'random'"):
        encoders.create("timm:cls", weights="best")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r'pip install "otoscope\[timm\]"'):
        encoders.create("timm:cls")
