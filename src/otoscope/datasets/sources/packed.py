"""Tars and Parquet files with audio and labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from otoscope.datasets.sources.from_table import rows_of_table
from otoscope.datasets.sources.parquet import list_parquet
from otoscope.datasets.sources.settings import Listing, Settings
from otoscope.datasets.sources.splits import is_split_name
from otoscope.datasets.sources.tables import Table, cell_text
from otoscope.datasets.sources.tar import TarClip, list_tars
from otoscope.datasets.sources.times import plain_name

_FOLD = re.compile(r"fold[-_]?(\d+)", re.IGNORECASE)


def read_tars(paths: Sequence[Path], settings: Settings) -> Listing:
    """Read tars of WebDataset or X-ARES: the labels are in a file with the same stem as the audio.

    Parameters
    ----------
    paths : the tars; their names, or the folder in which they are, tell the split or the fold.
    settings : how labels are read.

    Returns
    -------
    Listing. The id of a clip is the path of its audio in the tar.

    Raises
    ------
    ValueError : when a tar cannot be read, has no audio or no labels.
    """
    clips = list_tars(paths)
    if not clips:
        raise ValueError(f"{paths[0].parent}: no audio file was found in {', '.join(path.name for path in paths[:3])}")
    records = [_record(clip) for clip in clips]
    names = dict.fromkeys(name for record in records for name in record)
    columns = {name: [cell_text(record.get(name)) for record in records] for name in names}
    _add_parts(columns, [clip.audio.path for clip in clips])
    ids = [clip.audio.name for clip in clips]
    listing = rows_of_table(Table(paths[0], columns), settings, "tar", [clip.audio for clip in clips])
    listing.layout = f"{len(paths)} tar{'s' * (len(paths) > 1)}"
    return _with_ids(listing, ids)


def read_parquet(paths: Sequence[Path], settings: Settings) -> Listing:
    """Read Parquet or Arrow files with the bytes of audio, as Hugging Face writes them.

    Parameters
    ----------
    paths : the files; their names, or the folder in which they are, tell the split or the fold.
    settings : how labels are read.

    Returns
    -------
    Listing. The id of a clip is the name of its audio file, or the number of its row.

    Raises
    ------
    ImportError : without pyarrow.
    ValueError : when there is no column with audio, or with labels.
    """
    listed = list_parquet(paths)
    columns = dict(listed.table.columns)
    files = columns.pop("file name", None)
    _add_parts(columns, [audio.path for audio in listed.audio])
    ids = [f"{audio.path.stem}-{audio.row}" for audio in listed.audio]  # type: ignore[union-attr]
    if files and all(files) and len(set(files)) == len(files):
        ids = files
    listing = rows_of_table(Table(paths[0], columns), settings, "Parquet", listed.audio)
    listing.layout = (
        f"{len(paths)} {'Arrow' if paths[0].suffix == '.arrow' else 'Parquet'} file{'s' * (len(paths) > 1)}"
    )
    label = settings.label or next((name for name in listed.classes if name in columns), "")
    listing.classes = listed.classes.get(label)
    return _with_ids(listing, ids)


def _with_ids(listing: Listing, ids: Sequence[str]) -> Listing:
    """Replace the numbers that `rows_of_table` uses as ids of lines without a path."""
    rows = listing.rows
    if all(id.isdecimal() for id in rows.ids):
        listing.rows = rows.take(range(len(rows)), ids=[ids[int(id)] for id in rows.ids])
    return listing


def _record(clip: TarClip) -> dict[str, Any]:
    """The labels of a clip in a tar: the entries of its JSON, and the contents of its other text files."""
    record: dict[str, Any] = {}
    for suffix, content in clip.meta.items():
        if isinstance(content, dict):
            record.update(content)
        else:
            record[{"cls": "label", "txt": "text"}.get(suffix, suffix)] = content
    return record


def _add_parts(columns: dict[str, list[str]], paths: Sequence[Path]) -> None:
    """Add the columns split or fold, which the names of the files tell, unless there are such columns."""
    known = {plain_name(name) for name in columns}
    if known & {"split", "fold"}:
        return
    distinct = {path: (split_in_name(path), fold_in_name(path)) for path in dict.fromkeys(paths)}
    for name, position in (("split", 0), ("fold", 1)):
        if all(parts[position] for parts in distinct.values()):
            columns[name] = [distinct[path][position] for path in paths]
            return


def fold_in_name(path: Path) -> str:
    """The number of the fold in the name of a file; "" if it has none.

    Examples
    --------
    >>> fold_in_name(Path("wds-audio-fold-3-0000000.tar")), fold_in_name(Path("train-0.tar"))
    ('3', '')
    """
    match = _FOLD.search(path.name)
    return match.group(1) if match else ""


def split_in_name(path: Path) -> str:
    """The split in the name of a file, or in the name of its folder; "" if there is none.

    Examples
    --------
    >>> split_in_name(Path("data/validation-00000-of-00002.parquet")), split_in_name(Path("test/data-0.arrow"))
    ('validation', 'test')
    """
    for text in (path.name.partition(".")[0], path.parent.name):
        for word in re.split(r"[-_\d]+", text):
            if is_split_name(word):
                return word
    return ""
