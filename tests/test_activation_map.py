"""Activation maps: their shapes, and the file in which they are kept."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from otoscope.results.activation_map import ActivationMap, activation_path, load

EVENTS = (np.array([0.5, 1.0]), np.array([2.0, 9.9]), ("dog", "rain"))
MAP = ActivationMap(
    "t/1", np.ones((40, 6)), 0.01, np.ones((5, 2)), 6.25, "dog", 3, *EVENTS, ("dog", "cat"), "tiny", "protobin"
)


@pytest.mark.parametrize("name", ["log_mel", "activation"])
@pytest.mark.parametrize("shape", [(3,), (3, 4, 5)])
def test_both_maps_have_two_dimensions(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"needs log_mel \[frames, bins\] and activation \[T, F\], found \["):
        replace(MAP, **{name: np.ones(shape)})


@pytest.mark.parametrize("name", ["hop_seconds", "frame_rate"])
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_times_are_positive(name: str, value: float) -> None:
    with pytest.raises(ValueError, match="hop_seconds and frame_rate must be > 0, found"):
        replace(MAP, **{name: value})
    assert getattr(replace(MAP, **{name: 0.5}), name) == 0.5


@pytest.mark.parametrize(
    "change", [{"event_onsets": np.ones(3)}, {"event_offsets": np.ones(1)}, {"event_labels": ("dog",)}]
)
def test_every_event_has_an_onset_an_offset_and_a_label(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"needs onset, offset and label, found \[\d, \d\] of them"):
        replace(MAP, **change)  # type: ignore[arg-type]


def test_every_field_is_saved_and_loaded_with_its_type(tmp_path: Path) -> None:
    path = tmp_path / "new" / "map.npz"
    replace(MAP, clip_id="other").save(path)
    MAP.save(path)
    again = load(str(path))
    for field in fields(ActivationMap):
        value, expected = getattr(again, field.name), getattr(MAP, field.name)
        if isinstance(expected, np.ndarray):
            assert value.dtype == np.float32
            np.testing.assert_allclose(value, expected, rtol=1e-6)
        else:
            assert (value, type(value)) == (expected, type(expected))
    assert again.seconds == MAP.seconds == 0.4
    silent = replace(MAP, event_onsets=np.ones(0), event_offsets=np.ones(0), event_labels=(), true_labels=())
    silent.save(path)
    assert load(path).event_labels == load(path).true_labels == ()


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = activation_path(tmp_path / "results")
    assert path == tmp_path / "activation_map.npz"
    with pytest.raises(FileNotFoundError):
        load(path)
    arrays = {field.name: np.asarray(getattr(MAP, field.name)) for field in fields(ActivationMap)}
    for wrong in ({"more": np.ones(1)}, {"clip_id": np.array([{}], object)}):
        np.savez(path, **arrays | wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"not an activation map of this version of otoscope: {path} is damaged"):
            load(path)
