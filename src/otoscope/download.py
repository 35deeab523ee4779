"""Downloads that continue where they stopped, and whose checksums are verified."""

from __future__ import annotations

import hashlib
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

_CHUNK = 1 << 20
_SECONDS = 10.0
"""Time between two lines about the progress."""
_NAMES = {"md5": "MD5", "sha256": "SHA-256"}


class DownloadError(OSError):
    """A file cannot be downloaded. The part that arrived is kept, and the next call continues it."""


class ChecksumError(ValueError):
    """A downloaded file is not the published one. It is removed."""


def fetch(
    url: str,
    path: Path,
    *,
    md5: str = "",
    sha256: str = "",
    size: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Download one file, or what is missing of it, and verify it.

    Parameters
    ----------
    url : its address.
    path : the file to write; nothing is done if it exists. The part that has arrived is kept beside it, with the suffix
        `.part`.
    md5, sha256 : published checksums; "" where none is published.
    size : published number of bytes; None where it is not known.
    progress : is called every ten seconds, with what has arrived.

    Raises
    ------
    DownloadError : when the server cannot be reached, refuses, or breaks off.
    ChecksumError : when the file has another checksum or size.
    OSError : when the file cannot be written.
    """
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        total = _receive(url, part, progress or (lambda _: None))
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise DownloadError(f"{url} cannot be downloaded: {error}; run the same command again to continue") from error
    arrived = part.stat().st_size
    if total is not None and arrived < total:
        raise DownloadError(f"{url}: {arrived:,} of {total:,} bytes arrived; run the same command again to continue")
    _verify(url, part, {"md5": md5, "sha256": sha256}, size)
    part.rename(path)


def _verify(url: str, part: Path, checksums: dict[str, str], size: int | None) -> None:
    """Raise `ChecksumError`, and remove the file, if it has another size or checksum."""
    arrived = part.stat().st_size
    problem = f"{arrived:,} bytes, but {size:,} are published" if size is not None and arrived != size else ""
    for kind, published in checksums.items():
        if published and not problem:
            with part.open("rb") as opened:
                computed = hashlib.file_digest(opened, kind).hexdigest()
            if computed != published.lower():
                problem = f"the {_NAMES[kind]} sum {computed}, but {published} is published"
    if problem:
        part.unlink()
        raise ChecksumError(f"{url} has {problem}; download it again")


def _receive(url: str, part: Path, progress: Callable[[str], None]) -> int | None:
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
        arrived = present if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = arrived + int(length) if length else None
        announced = time.monotonic()
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            arrived += len(chunk)
            if time.monotonic() - announced >= _SECONDS:
                announced = time.monotonic()
                progress(f"  {arrived / 1e6:,.0f} MB" + (f" of {total / 1e6:,.0f} MB" if total else ""))
    return total
