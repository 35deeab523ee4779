"""Audio in tars, as in WebDataset and X-ARES: the files with one stem belong to one clip."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from otoscope.datasets.sources.audio import TarMember
from otoscope.datasets.sources.folder import is_audio

_META = 1 << 20
"""Largest size of a file with labels, in bytes."""


@dataclass
class TarClip:
    """An audio file in a tar and the files with the same stem.

    Parameters
    ----------
    audio : place of the audio.
    meta : content of the files with the same stem, by suffix without the dot: JSON as values, others as text.
    """

    audio: TarMember
    meta: dict[str, Any] = field(default_factory=dict)


def list_tar(path: Path) -> list[TarClip]:
    """List the audio files in a tar, with their offsets. The audio itself is not read.

    Parameters
    ----------
    path : a tar that is not compressed.

    Returns
    -------
    The audio files in the order of the tar.

    Raises
    ------
    ValueError : when the file is no tar, is compressed, or is truncated.
    """
    clips: dict[str, TarClip] = {}
    meta: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                stem, _, suffix = _stem(member.name)
                if not member.isfile() or member.name.rpartition("/")[2].startswith("."):
                    continue
                if is_audio(member.name):
                    if stem in clips:
                        raise ValueError(f"{path}: {clips[stem].audio.name} and {member.name} are audio of one clip")
                    clips[stem] = TarClip(TarMember(path, member.name, member.offset_data, member.size))
                elif suffix and member.size <= _META and (file := tar.extractfile(member)):
                    meta.setdefault(stem, {})[suffix] = _content(file.read(), suffix)
    except tarfile.TarError as error:
        raise ValueError(_reason(path, error)) from error
    for stem, clip in clips.items():
        clip.meta.update(meta.get(stem, {}))
    return list(clips.values())


def list_tars(paths: Sequence[Path]) -> list[TarClip]:
    """List the audio files of several tars, as `list_tar`."""
    return [clip for path in paths for clip in list_tar(path)]


def _stem(name: str) -> tuple[str, str, str]:
    """The stem, dot and suffix of a file; as in WebDataset, the suffix begins at the first dot of the name."""
    folder, slash, last = name.rpartition("/")
    if is_audio(name):
        first, dot, suffix = last.rpartition(".")
    else:
        first, dot, suffix = last.partition(".")
    return folder + slash + first, dot, suffix


def _content(data: bytes, suffix: str) -> Any:
    text = data.decode("utf-8", errors="replace").strip()
    if suffix == "json":
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _reason(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        magic = file.read(6)
    packed = {b"\x1f\x8b": "gunzip", b"BZ": "bunzip2", b"\xfd7": "unxz"}.get(magic[:2])
    if packed:
        return f"{path} is compressed, so single clips cannot be read from it; unpack it first: {packed} {path.name}"
    return f"{path} cannot be read as a tar: {error}; download it again"
