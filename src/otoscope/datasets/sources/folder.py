"""Audio files in folders: which ones there are, and which one a table means."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from otoscope.warning import warn

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".w64", ".rf64", ".caf", ".sph")
"""Suffixes of audio files, the preferred ones first."""

_OTHER = (".m4a", ".aac", ".mp4", ".wma", ".webm", ".amr")
"""Suffixes of audio files that libsndfile does not read. They are listed, so that the error names them."""


_SUFFIXES = frozenset((*SUFFIXES, *_OTHER))

_SYSTEM = {"__macosx", "__pycache__", "@eadir", "$recycle.bin", "#recycle", "lost+found", "system volume information"}
"""Names in small letters of folders that archives and operating systems make beside the data."""

_DEEPEST = 12
"""Number of levels of folders that are searched."""


def is_audio(name: str) -> bool:
    """Whether a file name has the suffix of an audio file, and is not hidden."""
    suffix = name[name.rfind(".") :].lower()
    return suffix in _SUFFIXES and not name.startswith(".", name.rfind("/") + 1)


def is_system_folder(name: str) -> bool:
    """Whether a name is that of a folder which archives and operating systems make, such as "__MACOSX"."""
    return name.casefold() in _SYSTEM


def below_system_folder(path: Path, folder: Path) -> bool:
    """Whether a path inside a folder is below one of those of `is_system_folder`, or below a hidden one."""
    return any(is_system_folder(part) or part.startswith(".") for part in path.relative_to(folder).parts[:-1])


def list_audio(folder: Path, left_out: list[str] | None = None) -> list[str]:
    """List the audio files in a folder and its subfolders.

    Parameters
    ----------
    folder : the folder.
    left_out : a list to which the folders of `is_system_folder` are added, which are left out.

    Returns
    -------
    Paths relative to the folder, with "/", sorted. Hidden files and folders, and folders that may not be read or are
    more than 12 levels deep, are left out. Links to folders are followed, but each folder is listed once: a link to one
    that is listed elsewhere, such as a folder around it, is left out with a warning.
    """
    files, listed = list[str](), set[str]()
    system = [] if left_out is None else left_out
    links = _list_folder(os.fspath(folder), "", files, listed, system)
    for path, prefix in links:  # grows while it is read; folders that are no links come first
        real = os.path.realpath(path)
        if real in listed or os.path.realpath(folder).startswith(os.path.join(real, "")):
            warn(f"{folder}: {prefix[:-1]!r} is a link to {real}, which is listed already; the link is left out")
        else:
            links += _list_folder(path, prefix, files, listed, system)
    return sorted(files)


def _list_folder(
    folder: str, prefix: str, files: list[str], listed: set[str], system: list[str]
) -> list[tuple[str, str]]:
    """Add the audio files of a folder to `files`, and the folders that were read to `listed`, as real paths.

    Folders of `is_system_folder` are added to `system`.

    Returns the links to folders, with the beginning of the names of the files behind them.
    """
    links, folders = list[tuple[str, str]](), [(folder, prefix)]
    for path, start in folders:
        if (real := os.path.realpath(path)) in listed:
            continue
        listed.add(real)
        for entry in _entries(path):
            if not entry.is_dir():
                if is_audio(entry.name):
                    files.append(start + entry.name)
            elif is_system_folder(entry.name):
                system.append(start + entry.name)
            elif start.count("/") < _DEEPEST:
                (links if entry.is_symlink() else folders).append((entry.path, f"{start}{entry.name}/"))
    return links


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What is in a folder and not hidden, sorted; nothing where that may not be read, or was removed meanwhile."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=attrgetter("name"))
    except OSError:
        return []


@dataclass(frozen=True)
class MatchedFiles:
    """The files that the names of a table mean.

    Parameters
    ----------
    folder : the folder that contains them.
    names : the path of each file relative to the folder; "" for one that is missing.
    changed : number of names that differ from the path of their file.
    ambiguous : the names that fit several files, and therefore none.
    """

    folder: Path
    names: list[str]
    changed: int
    ambiguous: tuple[str, ...] = ()

    @property
    def missing(self) -> list[int]:
        """The rows whose file is missing."""
        return [row for row, name in enumerate(self.names) if not name] if "" in self.names else []


def find_audio(names: Sequence[str], folder: Path) -> MatchedFiles:
    """Find the audio files that a table names.

    A name may be an absolute path, also one of another computer; a path relative to the folder or to one of its
    subfolders; one with backslashes, without its suffix, or with other capital letters. A name that fits several
    files means none of them.

    Parameters
    ----------
    names : the names in the table.
    folder : the folder with the audio files, at any depth.

    Returns
    -------
    MatchedFiles. Names are relative to the folder, or absolute paths outside it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "audio", "a b.wav")
    ...     file.parent.mkdir()
    ...     file.touch()
    ...     find_audio(["a b.wav", r"C:\\\\data\\\\audio\\\\a b.wav", "A B", "c.wav"], Path(folder)).names
    ['audio/a b.wav', 'audio/a b.wav', 'audio/a b.wav', '']
    """
    matched, ambiguous = _in_place(names, folder), dict[str, None]()
    if not all(matched):
        files = _Files(list_audio(folder), ambiguous)
        matched = [file or files.find(name) for file, name in zip(matched, names, strict=True)]
    pairs = () if matched == names else zip(names, matched, strict=True)
    changed = sum(bool(file) and file != name for name, file in pairs)
    return MatchedFiles(folder, matched, changed, tuple(ambiguous))


def _in_place(names: Sequence[str], folder: Path) -> list[str]:
    """The names that are paths of files, relative to the folder or absolute, and "" for the others.

    Every folder that occurs in the names is listed once.
    """
    present, listed = set[str](), set[str]()
    inside, files = f"{folder.absolute()}/", []
    for name in names:
        if name not in present:  # the folder was not listed, or the file is missing
            name = name.removeprefix(inside)
            parent, slash, _ = name.rpartition("/")
            if (parent := parent + slash) not in listed:
                listed.add(parent)
                present.update(parent + file for file in _files_in(folder / parent))
        files.append(name if name in present else "")
    return files


def _files_in(folder: Path) -> set[str]:
    """Names of the files in a folder; none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.is_dir()}
    except (OSError, ValueError):
        return set()


class _Files:
    """The audio files of a folder, which are looked up by their paths or by the end of their paths.

    Names that fit several files are added to `ambiguous`.
    """

    def __init__(self, files: Sequence[str], ambiguous: dict[str, None]) -> None:
        self._ambiguous = ambiguous
        self._exact = set(files)
        self._by_stem: dict[str, list[str]] | None = None
        self._files = files
        self._prefix = ""

    def find(self, name: str) -> str:
        """The file that a name means; "" if there is none, or if there are several."""
        if name in self._exact:
            return name
        if (file := self._prefix + name) in self._exact:  # in the same folder as the file before
            return file
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        if not parts:
            return ""
        plain = "/".join(parts)
        file = plain if plain in self._exact else self._search(parts, name)
        if file.endswith("/" + name):
            self._prefix = file[: -len(name)]
        return file

    def _search(self, parts: list[str], name: str) -> str:
        """The only file with the longest common end."""
        if self._by_stem is None:
            self._by_stem = {}
            for file in self._files:
                for key in {_key(file), file.rpartition("/")[2].casefold()}:
                    self._by_stem.setdefault(key, []).append(file)
        last = parts[-1].casefold()
        candidates = self._by_stem.get(last) or (self._by_stem.get(_key(last), []) if not is_audio(last) else [])
        for depth in range(min(len(parts), 8), 0, -1):
            end = [part.casefold() for part in parts[-depth:-1]]
            fit = [file for file in candidates if [part.casefold() for part in _folders(file, depth)] == end]
            if len(fit) == 1:
                return fit[0]
            if fit:
                file = _preferred(fit)
                if not file:
                    self._ambiguous[name] = None
                return file
        return ""


def _key(file: str) -> str:
    """The name of a file without its suffix, in small letters."""
    return os.path.splitext(file.rpartition("/")[2])[0].casefold()


def _folders(file: str, depth: int) -> list[str]:
    return file.split("/")[-depth:-1]


def _preferred(files: list[str]) -> str:
    """Of one recording in several formats, the one in the preferred format; "" for different recordings."""
    if len({os.path.splitext(file)[0].casefold() for file in files}) > 1:
        return ""
    order = [*SUFFIXES, *_OTHER]
    return min(files, key=lambda file: order.index(os.path.splitext(file)[1].lower()))
