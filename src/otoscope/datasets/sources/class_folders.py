"""A folder with one folder of audio files for each class, with or without folders of splits above them."""

from __future__ import annotations

from pathlib import Path

from otoscope.datasets.sources.audio import AudioFiles
from otoscope.datasets.sources.folder import list_audio
from otoscope.datasets.sources.labels import one_each
from otoscope.datasets.sources.rows import Rows
from otoscope.datasets.sources.settings import Listing, Settings
from otoscope.datasets.sources.splits import is_split_name, plain_fold
from otoscope.printable import name_some


def read_class_folders(folder: Path, settings: Settings) -> Listing | None:
    """Read folders of classes.

    Parameters
    ----------
    folder : the folder.
    settings : `splits` may name the folders of splits.

    Returns
    -------
    Listing; None for a folder whose audio files are not in at least two folders.

    Raises
    ------
    ValueError : when several folders are splits or folds by their names, and some files are in no class inside them.
    """
    system: list[str] = []
    files = list_audio(folder, system)
    parts = [file.split("/") for file in files]
    tops = sorted({part[0] for part in parts if len(part) > 1})
    with_splits = bool(tops) and all(len(part) > 2 for part in parts) and all(_is_split(top, settings) for top in tops)
    with_folds = bool(tops) and all(len(part) > 2 for part in parts) and all(_is_fold(top) for top in tops)
    level = 1 if with_splits or with_folds else 0
    if not level:
        _refuse_mixture(folder, parts, {top for top in tops if _is_split(top, settings)}, "split")
        _refuse_mixture(folder, parts, {top for top in tops if _is_fold(top)}, "fold")
    inside = [number for number, part in enumerate(parts) if len(part) > level + 1]
    labels = [parts[number][level] for number in inside]
    if len(set(labels)) < 2:
        return None
    names = [files[number] for number in inside]
    above = [parts[number][0] for number in inside] if level else None
    rows = Rows(
        ids=names,
        audio=AudioFiles(folder, names),
        labels=one_each(labels),
        splits=above if with_splits else None,
        folds=[plain_fold(name) for name in above] if above and with_folds else None,
    )
    listing = Listing("folders of classes", rows, len(rows), kind="multi-class")
    if system:
        listing.notes.append(f"folders that are no data were left out: {name_some(system)}")
    deeper = sorted({parts[number][level + 1] for number in inside if len(parts[number]) > level + 2})
    if deeper:
        listing.notes.append(f"folders inside the folders of classes are no labels: {name_some(deeper)}")
    if len(inside) < len(files):
        listing.notes.append(f"{len(files) - len(inside)} audio files outside the folders of classes were left out")
    return listing


def _refuse_mixture(folder: Path, parts: list[list[str]], above: set[str], what: str) -> None:
    """Raise `ValueError` where several folders are splits or folds by their names, which would be read as classes."""
    other = ["/".join(part) for part in parts if len(part) < 3 or part[0] not in above]
    if len(above) > 1:
        raise ValueError(
            f"{folder}: the folders {name_some(sorted(above))} are {what}s by their names, with folders of classes "
            f"expected inside, but {len(other):,} of {len(parts):,} audio files are in no folder of a class of a "
            f"{what}: {name_some(other)}. Move these files out of the folder, or rename the folders"
        )


def _is_split(name: str, settings: Settings) -> bool:
    return name in settings.splits if settings.splits else is_split_name(name)


def _is_fold(name: str) -> bool:
    return name.casefold().startswith("fold") and plain_fold(name).isdecimal()
