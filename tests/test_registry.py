"""Registries: registrations inside `isolated` are removed afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from otoscope import encoders, load_plugin, probes
from otoscope.registry import UnknownNameError
from toys import Ear


def _register_and_fail() -> None:
    with encoders.registry.isolated():
        encoders.register("ear")(Ear)
        assert encoders.registry.get("ear") is Ear
        raise RuntimeError


def test_registrations_are_undone_also_after_an_error() -> None:
    before = encoders.names()
    with pytest.raises(RuntimeError):
        _register_and_fail()
    assert encoders.names() == before
    with pytest.raises(UnknownNameError):
        encoders.registry.get("ear")


def test_a_plugin_file_registers_again_in_the_next_block(plugin_folder: Path) -> None:
    for _ in range(2):
        with probes.registry.isolated():
            load_plugin(plugin_folder / "silent.py")
            assert "silent" in probes.names()
    assert "silent" not in probes.names()


def test_random_weights_make_an_encoder_a_control() -> None:
    assert not encoders.create("tiny").control
    assert encoders.create("tiny", weights="random").control
