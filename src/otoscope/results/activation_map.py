"""The activation map of one prototype on one held-out clip, stored in a file next to a store of results.

Computing it needs the clip, the encoder and the probe. The report only reads the file at `activation_path`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from otoscope.files import replacing
from otoscope.results.checked import load_arrays

_TEXT = ("clip_id", "class_name", "encoder", "probe")
_NUMBERS = ("hop_seconds", "frame_rate")
_LABELS = ("event_labels", "true_labels")


@dataclass(frozen=True)
class ActivationMap:
    """The spectrogram of a clip, the similarity of a prototype with its tokens, and its true events.

    Parameters
    ----------
    clip_id : id of the clip.
    log_mel : float32 [frames, bins]. Natural logarithm or dB; bin 0 is the lowest frequency.
    hop_seconds : seconds from one frame to the next.
    activation : float32 [T, F]. Cosine of the prototype with every token; F = 0 is the lowest frequency.
    frame_rate : columns T per second.
    class_name : the class to which the prototype contributes in this clip.
    prototype : row of the prototype in the probe.
    event_onsets, event_offsets : float32 [E]. In seconds.
    event_labels : classes of the events, E of them.
    true_labels : classes of the clip.
    encoder, probe : labels.

    Raises
    ------
    ValueError : for arrays of other shapes, or a hop or frame rate that is not positive.

    Examples
    --------
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
                "an activation map needs log_mel [frames, bins] and activation [T, F], "
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
        """Write an .npz file atomically. An existing file is replaced."""
        arrays: dict[str, Any] = {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}
        for name in _LABELS:
            arrays[name] = np.array(getattr(self, name), dtype=np.str_)
        for name in ("log_mel", "activation", "event_onsets", "event_offsets"):
            arrays[name] = arrays[name].astype(np.float32)
        with replacing(Path(path)) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)


def activation_path(store: str | Path) -> Path:
    """The path of the activation map of a store.

    >>> activation_path("demo/results").as_posix()
    'demo/activation_map.npz'
    """
    return Path(store).parent / "activation_map.npz"


def load(path: str | Path) -> ActivationMap:
    """Read an activation map.

    Parameters
    ----------
    path : a file that `ActivationMap.save` wrote.

    Returns
    -------
    ActivationMap. The one that was saved.

    Raises
    ------
    FileNotFoundError : without a file.
    ValueError : for any other file.
    """
    try:
        values: dict[str, Any] = dict(load_arrays(Path(path), {f.name: "fiubU" for f in fields(ActivationMap)}))
    except ValueError as error:
        raise ValueError(f"not an activation map of this version of otoscope: {error}") from error
    for name in _TEXT:
        values[name] = str(values[name])
    for name in _NUMBERS:
        values[name] = float(values[name])
    for name in _LABELS:
        values[name] = tuple(values[name].tolist())
    values["prototype"] = int(values["prototype"])
    return ActivationMap(**values)
