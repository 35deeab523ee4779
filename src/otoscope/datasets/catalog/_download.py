"""Downloads of data sets, which are checked and unpacked."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from otoscope.datasets.catalog._declaration import Download
from otoscope.download import fetch


def download(files: Sequence[Download], root: Path, *, progress: Callable[[str], None] | None = None) -> None:
    """Download files into a folder and unpack archives. A download that was interrupted is continued.

    Parameters
    ----------
    files : the files.
    root : folder of the data sets. Archives are kept in its subfolder `.downloads` until they are unpacked.
    progress : is called with one line for each file, and every ten seconds.

    Raises
    ------
    OSError : when a file cannot be downloaded; the part that arrived is kept.
    ValueError : when a file has another MD5 sum, or is no archive.
    """
    for file in files:
        target = root / file.into
        done = root / ".downloads" / f"{file.name}.done"
        if done.is_file():
            continue
        if progress:
            progress(f"downloading {file.url}")
        done.parent.mkdir(parents=True, exist_ok=True)
        archive = done.parent / file.name
        fetch(file.url, archive, md5=file.md5, progress=progress)
        target.mkdir(parents=True, exist_ok=True)
        if file.unpacked:
            _unpack(archive, target)
            archive.unlink()
        else:
            shutil.move(archive, target / file.name)
        done.touch()


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack a .zip or a tar; files outside the folder are refused."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(folder)
            return
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise ValueError(f"{archive} cannot be unpacked: {error}; remove it and run the same command again") from error
