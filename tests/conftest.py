"""Fixtures that several test modules share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from helpers_whisper import save_whisper
from otoscope import datasets, encoders, metrics, probes, search
from otoscope.report.html import sections
from toys import Crossed, Ear, Folded, Tones

TOY_PLUGIN = """
from toys import Ear, Tones
from otoscope import datasets, encoders
encoders.register("ear")(Ear)
datasets.register("tones")(Tones)
"""
SILENT_PLUGIN = """
import torch
from otoscope.probes import ClipProbe, register

@register("silent")
class Silent(ClipProbe):
    def forward(self, tokens):
        return torch.zeros(len(tokens), self.n_classes)
"""


@pytest.fixture
def isolated_registries() -> Iterator[None]:
    """Remove after the test everything that it registers."""
    with ExitStack() as stack:
        for package in (encoders, datasets, metrics, probes, search, sections):
            stack.enter_context(package.registry.isolated())
        yield


@pytest.fixture
def toy_plugins(isolated_registries: None) -> None:  # noqa: ARG001
    """The encoder `ear` and the data set `tones`, registered for one test."""
    encoders.register("ear")(Ear)
    datasets.register("tones")(Tones)


@pytest.fixture
def toy_suites(toy_plugins: None) -> None:  # noqa: ARG001
    """What `toy_plugins` registers and the data sets `folded` and `crossed`, for one test."""
    datasets.register("folded")(Folded)
    datasets.register("crossed")(Crossed)


@pytest.fixture
def plugin_folder(isolated_registries: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001
    """The working directory of one test, with the plug-in files toy.py (encoder, data set) and silent.py (probe)."""
    (tmp_path / "toy.py").write_text(TOY_PLUGIN)
    (tmp_path / "silent.py").write_text(SILENT_PLUGIN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def needs_optuna() -> None:
    """Skip the test where the optional package Optuna is not installed."""
    pytest.importorskip("optuna", reason="the extra `search` (Optuna) is not installed")


@pytest.fixture(scope="session")
def whisper_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a small random Whisper checkpoint whose window is one second."""
    pytest.importorskip("transformers", reason="the encoder whisper needs transformers")
    return save_whisper(tmp_path_factory.mktemp("whisper"))
