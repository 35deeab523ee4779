"""The exhibit: one held-out clip seen through one trained probe, kept in a file beside a store of results.

Whoever has the clip, the encoder and the probe writes it (`save`); the report reads it (`load`) and needs neither.
By custom it lies at `<folder of the store>/../activation_map.npz`, which is what `activation_path` answers.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from otoscope.files import replacing

_TEXT = ("clip_id", "class_name", "encoder", "probe")
_NUMBERS = ("hop_seconds", "frame_rate")
_LABELS = ("event_labels", "true_labels")


@dataclass(frozen=True)
class ActivationMap:
    """A clip's spectrogram, where a prototype answers in it, and what is really there.

    log_mel: float32 [frames, bins], natural log or dB, one frame every `hop_seconds` s, bin 0 lowest in frequency.
    activation: float32 [T, F], the prototype's cosine with every token of the clip, `frame_rate` columns per second,
    F = 0 lowest in frequency; prototype: its row in the probe; class_name: the class it speaks for in this clip.
    event_onsets, event_offsets: float32 [E] in seconds, event_labels: their classes; true_labels: the clip's classes.

    >>> clip = ActivationMap("a", np.zeros((1000, 128)), 0.01, np.zeros((62, 8)), 6.25, "dog", 3,
    ...                np.array([0.5]), np.array([1.0]), ("dog",), ("dog",), "tiny", "protobin")
    >>> clip.seconds
    10.0
    """

    clip_id: str
    log_mel: npt.NDArray[np.float32]
    hop_seconds: float
    activation: npt.NDArray[np.float32]
    frame_rate: float
    class_name: str
    prototype: int
    event_onsets: npt.NDArray[np.float32]
    event_offsets: npt.NDArray[np.float32]
    event_labels: tuple[str, ...]
    true_labels: tuple[str, ...]
    encoder: str
    probe: str

    def __post_init__(self) -> None:
        if self.log_mel.ndim != 2 or self.activation.ndim != 2:
            raise ValueError(
                "an exhibit needs log_mel [frames, bins] and activation [T, F], "
                f"found {list(self.log_mel.shape)} and {list(self.activation.shape)}"
            )
        if min(self.hop_seconds, self.frame_rate) <= 0:
            raise ValueError(f"hop_seconds and frame_rate must be > 0, found {self.hop_seconds}, {self.frame_rate}")
        lengths = {len(self.event_onsets), len(self.event_offsets), len(self.event_labels)}
        if len(lengths) != 1:
            raise ValueError(f"every event needs onset, offset and label, found {sorted(lengths)} of them")

    @property
    def seconds(self) -> float:
        """Length of the spectrogram in seconds."""
        return float(len(self.log_mel) * self.hop_seconds)

    def save(self, path: str | Path) -> None:
        """Write to an .npz file, whole or not at all, over whatever was there."""
        held: dict[str, Any] = {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}
        for name in _LABELS:
            held[name] = np.array(getattr(self, name), dtype=np.str_)
        for name in ("log_mel", "activation", "event_onsets", "event_offsets"):
            held[name] = held[name].astype(np.float32)
        with replacing(Path(path)) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **held)


def activation_path(store: str | Path) -> Path:
    """Where the exhibit of a store lies.

    >>> activation_path("demo/results").as_posix()
    'demo/activation_map.npz'
    """
    return Path(store).parent / "activation_map.npz"


def load(path: str | Path) -> ActivationMap:
    """Read an exhibit; `ValueError` for a file that is none, `FileNotFoundError` where there is no file."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            held = {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, ValueError) as error:
        raise ValueError(f"{path} is not an exhibit written by otoscope: {error}") from error
    missing = sorted({f.name for f in fields(ActivationMap)} ^ set(held))
    if missing:
        raise ValueError(f"{path} is not an exhibit of this version of otoscope; fields that differ: {missing}")
    for name in _TEXT:
        held[name] = str(held[name])
    for name in _NUMBERS:
        held[name] = float(held[name])
    for name in _LABELS:
        held[name] = tuple(held[name].tolist())
    held["prototype"] = int(held["prototype"])
    return ActivationMap(**held)
