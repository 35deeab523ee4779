"""Places that the user names: paths and URLs."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from otoscope.files import readable_name, replacing
from otoscope.remote.mirror import Mirror, mirrors

_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://(.*)", re.DOTALL)


def is_url(place: str | Path) -> bool:
    """Whether a place is a URL and not a path.

    Examples
    --------
    >>> is_url("s3://bucket/bank"), is_url("runs/bank"), is_url("C:/bank")
    (True, False, False)
    """
    return _URL.fullmatch(str(place)) is not None


def local_folder(place: str | Path) -> Path:
    """Return the folder of this machine for a path or a URL.

    Parameters
    ----------
    place : str or Path. A path, a URL `file://` with an absolute path, or another URL.

    Returns
    -------
    Path. The path, or for a URL its mirror. Nothing is downloaded.

    Raises
    ------
    ImportError : when fsspec, or the package of the protocol, is not installed.
    ValueError : for an unknown protocol, an incomplete URL, a `file://` whose path is not absolute, and one that
        contains a password.

    Examples
    --------
    >>> local_folder("file:///data/bank").as_posix(), local_folder("data/bank").as_posix()
    ('/data/bank', 'data/bank')
    """
    parts = _URL.fullmatch(str(place))
    if parts is None:
        return Path(place)
    protocol, rest = parts[1].lower(), parts[2].rstrip("/")
    if not rest.strip("/"):
        raise ValueError(f"{place} names no folder; give a URL such as s3://bucket/bank")
    if protocol in ("file", "local"):
        if not Path(rest).is_absolute():
            raise ValueError(
                f"{place} is no URL of a folder: {protocol}:// needs three slashes and an absolute path, such as "
                f"{protocol}:///{rest}; or give the path {rest} itself"
            )
        return Path(rest)
    if re.match("[^/@]*:[^/@]*@", rest):
        raise ValueError(
            f"the {protocol} URL contains a password, which would be stored; give it in the configuration of fsspec "
            "(~/.config/fsspec) or in the environment"
        )
    _check_protocol(protocol)
    url = f"{protocol}://{rest}"
    name = f"{readable_name(rest.rpartition('/')[2])}-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
    folder = mirrors() / name
    if not (folder / ".url").exists():
        with replacing(folder / ".url") as temporary:
            temporary.write_text(url + "\n", encoding="utf-8")
    return folder


def shown(path: Path) -> str:
    """Return a path as messages show it: the URL of a mirror, else the path."""
    mirror = Mirror.of(path)
    return mirror.url if mirror else str(path)


def _check_protocol(protocol: str) -> None:
    """Raise `ImportError` or `ValueError` unless a protocol can be used."""
    try:
        import fsspec
    except ImportError as error:
        raise ImportError(
            f'{protocol}:// needs fsspec, which is not installed: pip install "otoscope[remote]"'
        ) from error
    try:
        fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        raise ImportError(f"{protocol}:// needs another package: {error}") from error
    except ValueError as error:
        known = "s3 (with s3fs), gs (with gcsfs), memory, file"
        raise ValueError(f"{protocol}:// is no protocol of fsspec; use one such as {known}") from error
