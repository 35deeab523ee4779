"""The digest of the content of a data set: its clips with their labels, and the content of their audio."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from otoscope.datasets._file_digests import FileDigests
from otoscope.identity import Identified
from otoscope.types import Clip

_PLAIN = (str, int, float, bool, type(None))

_WITH_AUDIO = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".caf", ".au", ".w64", ".rf64", ".sph"}
_WITH_AUDIO |= {".tar", ".zip", ".h5", ".hdf5", ".parquet", ".arrow", ".npy", ".npz"}
"""Suffixes of files that contain audio. Any other file, such as a table, may only name the file with the audio."""


def content_digest(clips: Iterable[Clip]) -> str:
    """Compute the sha256 over clips: id, split, rate, labels, events, groups and audio.

    The audio of a clip is represented by the content of its file where `Clip.load` is bound to its path: by an argument
    of a partial, a default, an attribute or a variable of a closure. The samples of any other clip are loaded and
    hashed.

    Parameters
    ----------
    clips : the clips of all splits.

    Returns
    -------
    The hexadecimal digest. It does not depend on the folder in which the files are.
    """
    sha, files = hashlib.sha256(), FileDigests()
    for clip in clips:
        events = [(event.onset, event.offset, event.label) for event in clip.events]
        audio = bound_audio(clip, files) or _samples(clip)
        rate = None if callable(vars(clip)["_rate"]) else clip.rate  # the rate of a file is a part of its content
        parts = [clip.id, clip.split, rate, clip.labels, events, clip.groups, audio]
        sha.update(json.dumps(parts, default=str).encode() + b"\n")
    files.save()
    return sha.hexdigest()


def bound_audio(clip: Clip, files: FileDigests) -> list[Any] | None:
    """The content of the files and the plain values that `clip.load` is bound to.

    None if it is bound to no file, or to a value that may decide the audio and cannot be represented.
    """
    audio: list[Any] = []
    names_file = False
    for value in _bound(clip.load):
        if (clip.path is not None and value == clip.path) or _is_audio_file(value):
            audio.append(files.digest(Path(value)))
            names_file = True
        elif isinstance(value, Clip):
            inner = bound_audio(value, files)
            if inner is None:
                return None
            audio.append([value.rate, *inner])
            names_file = True
        elif isinstance(value, _PLAIN):
            audio.append(value)
        elif not isinstance(value, Identified):
            return None
    return audio if names_file else None


def _bound(load: Any) -> Iterator[Any]:
    """The values that a function is bound to, in a fixed order."""
    if isinstance(load, partial):
        yield from load.args
        yield from (value for _, value in sorted(load.keywords.items()))
        load = load.func
    if inspect.ismethod(load):
        yield load.__self__
        load = load.__func__
    yield from getattr(load, "__defaults__", None) or ()
    yield from (getattr(load, "__kwdefaults__", None) or {}).values()
    yield from (cell.cell_contents for cell in getattr(load, "__closure__", None) or ())
    yield from getattr(load, "__dict__", {}).values()


def _is_audio_file(value: Any) -> bool:
    """Whether a value is the path of a file with audio. A relative text is not: it may be relative to any folder."""
    if not isinstance(value, Path) and not (isinstance(value, str) and os.path.isabs(value)):
        return False
    try:
        return Path(value).suffix.lower() in _WITH_AUDIO and Path(value).is_file()
    except (OSError, ValueError):  # a text that cannot be a path
        return False


def _samples(clip: Clip) -> str:
    """The sha256 of the decoded samples of a clip."""
    wave = np.ascontiguousarray(clip.audio)
    return hashlib.sha256(f"{wave.dtype} {wave.shape}".encode() + wave.tobytes()).hexdigest()
