"""Where the audio of a clip is: in a file, in a tar, or in a cell of a Parquet file.

Each place is described by plain values, and read by a partial of a function of this module: such a function can be
sent to another process, and the digest of a data set sees the file that it reads.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from otoscope.audio import Wave
from otoscope.audio.decode import Source, decode, file_rate
from otoscope.audio.part import decode_part
from otoscope.datasets.column import Column, taken
from otoscope.datasets.sources.cells import cell_bytes


class _NamedBytes(io.BytesIO):
    """Bytes in memory that error messages name by where they come from."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self._name = name

    def __repr__(self) -> str:
        return self._name


@dataclass(frozen=True, slots=True)
class AudioFile:
    """An audio file.

    Parameters
    ----------
    path : path of the file.
    """

    path: Path

    @property
    def where(self) -> tuple[Any, ...]:
        """The arguments of `open_audio`."""
        return (self.path,)


@dataclass(frozen=True, slots=True)
class TarMember:
    """An audio file inside a tar that is not compressed.

    Parameters
    ----------
    path : path of the tar.
    name : name of the file in the tar, for messages.
    offset, size : where its bytes are in the tar.
    """

    path: Path
    name: str
    offset: int
    size: int

    @property
    def where(self) -> tuple[Any, ...]:
        """The arguments of `open_audio`."""
        return (self.path, self.name, self.offset, self.size)


@dataclass(frozen=True, slots=True)
class ParquetCell:
    """The bytes of an audio file in a column of a Parquet file, or of an Arrow file of Hugging Face.

    Parameters
    ----------
    path : path of the file.
    column : name of the column; it contains bytes, or a struct with the field `bytes`.
    row : number of the row in the file.
    """

    path: Path
    column: str
    row: int

    @property
    def where(self) -> tuple[Any, ...]:
        """The arguments of `open_audio`."""
        return (self.path, self.column, self.row)


Audio = AudioFile | TarMember | ParquetCell
"""Where the audio of a clip is."""


class AudioFiles(Column[Audio]):
    """A column of audio files in one folder. The place of a file is made when it is read.

    Parameters
    ----------
    folder : the folder.
    names : paths of the files relative to the folder; absolute paths are kept.

    Examples
    --------
    >>> AudioFiles("birds", ["a.wav"])[0].path.as_posix()
    'birds/a.wav'
    """

    def __init__(self, folder: str | os.PathLike[str], names: Sequence[str]) -> None:
        self.folder, self.names = Path(folder), names
        super().__init__(len(names), lambda row: AudioFile(self.folder / names[row]))

    def take(self, index: npt.NDArray[np.int64]) -> AudioFiles:
        """Select rows, as `otoscope.datasets.column.taken`."""
        return AudioFiles(self.folder, taken(self.names, index))

    @property
    def paths(self) -> Column[str]:
        """The path of each file as text, without a `Path` for each of them."""
        start, folder, names = os.fspath(self.folder / "-")[:-1], self.folder, self.names

        def path(row: int) -> str:
            name = names[row]
            text = start + name
            return text if name[:1] != "/" and "//" not in text and "/." not in text else os.fspath(folder / name)

        return Column(len(names), path)


def places(audio: Sequence[Audio]) -> Column[Hashable]:
    """A value for each place of audio that is equal for equal places: the path of a file as text, or the place.

    Parameters
    ----------
    audio : a column of places.

    Examples
    --------
    >>> list(places(AudioFiles("birds", ["a.wav", "./a.wav"]))), *places([AudioFile(Path("birds/a.wav"))])
    (['birds/a.wav', 'birds/a.wav'], 'birds/a.wav')
    """
    if isinstance(audio, AudioFiles):
        return Column(len(audio), audio.paths.__getitem__)

    def place(row: int) -> Hashable:
        file = audio[row]
        return os.fspath(file.path) if isinstance(file, AudioFile) else file

    return Column(len(audio), place)


def open_audio(path: Path, *place: Any) -> Source:
    """Open audio: a file, the member of a tar, or the cell of a Parquet file.

    Parameters
    ----------
    path : path of the file.
    place : nothing for an audio file, (name, offset, size) for a member of a tar, (column, row) for a cell.

    Returns
    -------
    The path of an audio file, or its bytes as a binary file in memory.

    Raises
    ------
    FileNotFoundError : when there is no such file.
    ValueError : when the cell is empty.
    """
    if not place:
        return path
    if len(place) == 3:
        name, offset, size = place
        with open(path, "rb") as file:
            file.seek(offset)
            return _NamedBytes(file.read(size), f"{path}, member {name}")
    column, row = place
    return _NamedBytes(cell_bytes(path, column, row), f"{path}, row {row} of column {column!r}")


def clip_rate(path: Path, *place: Any) -> int:
    """Read the sampling rate of audio in Hz; the arguments are those of `open_audio`."""
    return file_rate(open_audio(path, *place))


def load_clip(
    start: float, end: float | None, seconds: float, fill: str, path: Path, *place: Any, frames_before: bool = True
) -> Wave:
    """Decode audio, or a part of it.

    Parameters
    ----------
    start, end : the part in seconds; None for the end of the audio. The whole audio is decoded from 0 to None.
    seconds : least duration of the result where `fill` is not "keep".
    fill : "pad" adds zeros at the end of shorter audio, "tile" repeats it, "keep" returns it as it is.
    path, place : as in `open_audio`.
    frames_before : as in `otoscope.audio.part.decode_part`.

    Returns
    -------
    float32 [S]. Mono samples.
    """
    source = open_audio(path, *place)
    if start == 0 and end is None:
        wave, rate = decode(source)
    else:
        wave, rate = decode_part(source, start, end, frames_before=frames_before)
    missing = round(seconds * rate) - len(wave)
    if fill == "keep" or missing <= 0:
        return wave
    return np.pad(wave, (0, missing)) if fill == "pad" else np.resize(wave, len(wave) + missing)


def bind_audio(
    audio: Audio, start: float, end: float | None, seconds: float, fill: str
) -> tuple[Callable[[], Wave], Callable[[], int]]:
    """Return the functions that load the audio of a clip and its sampling rate; the arguments are as in `load_clip`."""
    load = partial(load_clip, start, end, seconds, fill, *audio.where)
    if start and _may_be_mp3(audio):
        # Early versions did not decode the frames before. Bound values are in the digest of the data set, so that
        # their banks are not used again.
        load = partial(load, frames_before=True)
    return load, partial(clip_rate, *audio.where)


def _may_be_mp3(audio: Audio) -> bool:
    name = audio.name if isinstance(audio, TarMember) else audio.path.name if isinstance(audio, AudioFile) else ".mp3"
    return name.lower().endswith(".mp3")
