"""Downloads that continue where they stopped, and that are checked and unpacked."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path

from otoscope.datasets.catalog._declaration import Download

_CHUNK = 1 << 20


def download(files: Sequence[Download], root: Path, *, progress: Callable[[str], None] | None = None) -> None:
    """Download files into a folder and unpack archives. A download that was interrupted is continued.

    Parameters
    ----------
    files : the files.
    root : folder of the data sets. Archives are kept in its subfolder `.downloads` until they are unpacked.
    progress : is called with one line for each file.

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
        archive = fetch(file, done.parent)
        target.mkdir(parents=True, exist_ok=True)
        if file.unpacked:
            _unpack(archive, target)
            archive.unlink()
        else:
            shutil.move(archive, target / file.name)
        done.touch()


def fetch(file: Download, folder: Path) -> Path:
    """Download one file into a folder and check its MD5 sum.

    Parameters
    ----------
    file : the file.
    folder : the folder; the part that has arrived is kept there under the name of the file and `.part`.

    Returns
    -------
    Path of the file.

    Raises
    ------
    OSError, ValueError : as in `download`.
    """
    path, part = folder / file.name, folder / f"{file.name}.part"
    if path.is_file():
        return path
    try:
        total = _receive(file.url, part)
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise OSError(f"{file.url} cannot be downloaded: {error}; run the same command again to continue") from error
    if total is not None and part.stat().st_size < total:
        raise OSError(
            f"{file.url}: {part.stat().st_size:,} of {total:,} bytes arrived; run the same command again to continue"
        )
    if file.md5:
        with part.open("rb") as opened:
            md5 = hashlib.file_digest(opened, "md5").hexdigest()
        if md5 != file.md5:
            part.unlink()
            raise ValueError(f"{file.url} has the MD5 sum {md5}, but {file.md5} is published; download it again")
    part.rename(path)
    return path


def _receive(url: str, part: Path) -> int | None:
    """Append what is missing to a file; return the number of bytes of the whole, None where the server does not say."""
    present = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={present}-"} if present else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416 and present:  # nothing is missing
            return present
        raise
    with response, part.open("ab" if response.status == 206 else "wb") as file:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
        length = response.headers.get("Content-Length")
    before = present if response.status == 206 else 0
    return before + int(length) if length else None


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
