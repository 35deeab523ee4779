"""Recognition of what is at a path, and the reader that it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from otoscope.datasets.sources import annotation_files, class_folders, hear, packed
from otoscope.datasets.sources.audio import AudioFiles
from otoscope.datasets.sources.complete import expect_all, missing_shards
from otoscope.datasets.sources.folder import below_system_folder, find_audio, list_audio
from otoscope.datasets.sources.from_table import Placed, rows_of_table
from otoscope.datasets.sources.parquet import has_audio
from otoscope.datasets.sources.settings import Listing, Settings, UnrecognisedError
from otoscope.datasets.sources.splits import is_split_name
from otoscope.datasets.sources.tables import SUFFIXES, Table, read_table

UNDERSTOOD = (
    "a folder with one folder of audio files for each class; a table (.csv, .tsv, .txt, .jsonl, .json, .parquet) that "
    "names audio files and their labels, or events with onset and offset; audio files with Audacity, Raven or "
    "JAMS files beside them; tars with labels (WebDataset, X-ARES); the folder of a HEAR task; Parquet or Arrow files "
    "with audio (Hugging Face); a card (.toml)"
)
"""The layouts that are recognised, in words."""


def read_path(path: Path, settings: Settings) -> Listing:
    """Recognise the layout of a path, and read its rows.

    Parameters
    ----------
    path : a folder or a file.
    settings : how it is read.

    Returns
    -------
    Listing.

    Raises
    ------
    FileNotFoundError : when there is nothing at the path.
    UnrecognisedError : when the layout is not recognised.
    ValueError : when it is, and cannot be understood.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file and no folder at {path}; check the path")
    if path.is_dir():
        return _read_folder(path, settings)
    if path.suffix.lower() == ".tar":
        return _part(packed.read_tars([path], settings), path)
    if path.suffix.lower() == ".arrow" or (path.suffix.lower() == ".parquet" and has_audio(path)):
        return _part(packed.read_parquet([path], settings), path)
    if path.suffix.lower() in (*SUFFIXES, ".json"):
        return read_tables([path], settings)
    raise UnrecognisedError(f"{path} is none of what is understood: {UNDERSTOOD}")


def read_tables(paths: Sequence[Path], settings: Settings, audio: Path | None = None) -> Listing:
    """Read one table, or one for each split, that name audio files.

    Parameters
    ----------
    paths : the tables.
    settings : how they are read.
    audio : the folder with the audio files; None for `Settings.audio`, or the folder of the tables.
    """
    table = read_table(paths[0]) if len(paths) == 1 else _joined(paths)
    folder = audio or _audio_folder(paths[0], settings)

    ambiguous: list[str] = []

    def place(names: Sequence[str]) -> Placed:
        matched = find_audio(names, folder)
        ambiguous.extend(matched.ambiguous)
        notes = (
            [f"{matched.changed} of {len(names)} names were completed to files in {folder}"] if matched.changed else []
        )
        return Placed(AudioFiles(folder, matched.names), frozenset(matched.missing), notes)

    kind = "event table" if len(paths) == 1 else f"{len(paths)} tables"
    listing = rows_of_table(table, settings, "table", place)
    listing.ambiguous = tuple(ambiguous)
    listing.layout = f"{kind if listing.rows.events is not None or len(paths) > 1 else 'table'} {paths[0].name}"
    if table.encoding == "cp1252":
        listing.notes.append("the table is not UTF-8; it was read as Windows-1252")
    return listing


def _audio_folder(table: Path, settings: Settings) -> Path:
    if settings.audio is None:
        folder = table.parent
        return folder if folder.name not in ("meta", "metadata", "annotations", "labels") else folder.parent
    folder = table.parent / settings.audio
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; the option audio names the folder with the audio files")
    return folder


def _joined(paths: Sequence[Path]) -> Table:
    """Several tables as one, with the name of each as the split."""
    tables = [read_table(path) for path in paths]
    names = list(tables[0].columns)
    for table in tables:
        if set(table.columns) != set(names):
            raise ValueError(f"{table.path} has the columns {list(table.columns)}, but {paths[0]} has {names}")
    columns = {name: [text for table in tables for text in table[name]] for name in names}
    columns["split"] = [path.stem for path, table in zip(paths, tables, strict=True) for _ in range(len(table))]
    notes = tuple(dict.fromkeys(note for table in tables for note in table.notes))
    return Table(paths[0], columns, tables[0].encoding, tables[0].delimiter, notes)


def _read_folder(folder: Path, settings: Settings) -> Listing:
    for recognise in _RECOGNISED:
        listing = recognise(folder, settings)
        if listing is not None:
            return listing
    inside = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
    raise UnrecognisedError(
        f"the layout of {folder} is not recognised; it contains {inside}. Understood are: {UNDERSTOOD}"
    )


def _tars(folder: Path, settings: Settings) -> Listing | None:
    paths = sorted(folder.glob("*.tar")) or sorted(folder.glob("*/*.tar"))
    return _whole(packed.read_tars, folder, paths, settings) if paths else None


def _parquet(folder: Path, settings: Settings) -> Listing | None:
    paths = sorted(path for path in folder.rglob("*.parquet") if not below_system_folder(path, folder))
    paths = [path for path in paths if has_audio(path)]
    paths = paths or sorted(folder.glob("data-*.arrow")) or sorted(folder.glob("*/data-*.arrow"))
    return _whole(packed.read_parquet, folder, paths, settings) if paths else None


def _whole(
    read: Callable[[Sequence[Path], Settings], Listing], folder: Path, paths: Sequence[Path], settings: Settings
) -> Listing:
    """Read all files in a folder, such as shards; raises `ValueError` where some are missing and `on_bad` is "fail"."""
    missing = expect_all(folder, missing_shards(paths), settings)
    listing = read(paths, settings)
    listing.left_out += missing
    return listing


def _part(listing: Listing, path: Path) -> Listing:
    """Add a sentence about the other shards to the listing of a single file, if the file is one of several shards."""
    missing = missing_shards([path])
    listing.left_out += [f"only one file is read: {missing}"] if missing else []
    return listing


def _tables(folder: Path, settings: Settings) -> Listing | None:
    """The tables in a folder: one, or one for each split."""
    if not (tables := _candidates(folder)):
        return None
    if len(tables) > 1 and not all(is_split_name(path.stem) for path in tables):
        usual = [path for path in tables if path.stem in ("metadata", "labels", "annotations", folder.name)]
        if len(usual) != 1:
            names = ", ".join(path.name for path in tables)
            raise UnrecognisedError(f"{folder} has several tables: {names}; give the path of one of them")
        tables = usual
    return _whole(partial(read_tables, audio=None if settings.audio else folder), folder, tables, settings)


def _candidates(folder: Path) -> list[Path]:
    """Tables in a folder, or one folder below, whose first lines look like a list of audio files."""
    for pattern in ("*", "*/*"):
        files = sorted(path for path in folder.glob(pattern) if path.suffix.lower() in SUFFIXES and path.is_file())
        files = [path for path in files if not path.name.startswith(".") and not below_system_folder(path, folder)]
        tables = [path for path in files if annotation_files.lists_audio(path)]
        if len(tables) > 1 and all(map(annotation_files.is_birdnet, tables)):
            return []
        if tables:
            return tables
    return []


def _annotated(folder: Path, settings: Settings) -> Listing | None:
    return annotation_files.read_annotated(folder, list_audio(folder), settings)


_RECOGNISED: tuple[Callable[[Path, Settings], Listing | None], ...] = (
    hear.read_hear,
    _tars,
    _parquet,
    _tables,
    _annotated,
    class_folders.read_class_folders,
)
