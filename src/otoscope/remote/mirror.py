"""The folder of this machine that mirrors a folder at a URL."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otoscope.files import cache_folder, json_text, replacing

_AT_ONCE = 64
"""Number of files that are downloaded or read together."""

_VERSION = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "updated", "mtime", "modify", "created")
"""Fields of a listing that change with the content of a file; each protocol has some of them."""


class RemoteError(OSError):
    """Files at a URL cannot be listed, read or written."""


def mirrors() -> Path:
    """The folder of all mirrors. Only folders in it are mirrors, whatever files a folder from elsewhere contains."""
    return cache_folder() / "remote"


@dataclass(frozen=True)
class RemoteFile:
    """A file in the listing of a URL.

    Parameters
    ----------
    size : int. Its length in bytes.
    version : str. A text that changes with its content; "" where the protocol has none.
    """

    size: int
    version: str


@dataclass(frozen=True)
class Mirror:
    """A folder of this machine that mirrors one at a URL.

    Parameters
    ----------
    url : str. The URL, without a slash at the end.
    path : Path. The folder of this machine.
    """

    url: str
    path: Path

    @classmethod
    def of(cls, path: Path) -> Mirror | None:
        """The mirror in a folder, which may be a part of a larger mirror; None for a folder that mirrors no URL."""
        try:
            parts = path.absolute().relative_to(mirrors()).parts
            url = (mirrors() / parts[0] / ".url").read_text(encoding="utf-8").strip()
        except (ValueError, IndexError, RuntimeError, FileNotFoundError):
            return None  # it is elsewhere, or there is no home folder
        return cls("/".join((url, *parts[1:])), path)

    def files(self) -> dict[str, RemoteFile]:
        """List the files at the URL, by their path relative to it; names and folders with a dot in front are left out.

        Raises
        ------
        RemoteError : when the server cannot be reached or refuses, and when it does not say how long a file is. A
            folder that does not exist has no files.
        """
        system, root = self._system()
        with _reporting(self.url, "listed"):
            system.invalidate_cache()
            try:
                listing: Mapping[str, Mapping[str, Any]] = system.find(root, detail=True)
            except FileNotFoundError:
                return {}
            start = f"{root.rstrip('/')}/"
            inside = {k: v for k, v in listing.items() if k.startswith(start) and _is_plain(k.removeprefix(start))}
            inside |= _informed(system, [name for name, info in inside.items() if info.get("size") is None])
        return {name.removeprefix(start): self._file(name, info) for name, info in inside.items()}

    def _file(self, name: str, info: Mapping[str, Any]) -> RemoteFile:
        """A file of the listing; raises `RemoteError` where its length is not known."""
        if info.get("size") is None:
            raise RemoteError(
                f"the server of {self.url} does not say how long {name} is, so no bank and no results can be read from "
                "it; copy the folder to this machine, or use another protocol, such as s3:// or gs://"
            )
        return RemoteFile(int(info["size"]), _version(info))

    def pull(self, wanted: Callable[[str], bool]) -> dict[str, RemoteFile]:
        """Download the files that are new or have changed, and delete copies of files that the URL no longer has.

        Files that are pending are uploaded first.

        Parameters
        ----------
        wanted : callable. Whether a file, given by its relative path, is mirrored.

        Returns
        -------
        dict. The listing of all files.

        Raises
        ------
        RemoteError : when something cannot be listed, read or written. Another call continues.
        """
        copies = list(self._copies())  # listed first: each is then uploaded, pending, or no longer at the URL
        self.push(*(name for name in self._pending() if (self.path / name).exists()))
        files, known = self.files(), self._versions()
        for copy in copies:
            if wanted(copy) and copy not in files:
                (self.path / copy).unlink(missing_ok=True)
        mirrored = {name: file for name, file in files.items() if wanted(name)}
        current = {name for name, f in mirrored.items() if f.version and known.get(name) == f.version}
        self.download({n: f.size for n, f in mirrored.items() if n not in current or not (self.path / n).exists()})
        versions = {name: file.version for name, file in mirrored.items()}
        if versions != known:
            with replacing(self.path / ".versions") as temporary:
                temporary.write_text(json_text(versions), encoding="utf-8")
        return files

    def download(self, sizes: Mapping[str, int]) -> None:
        """Download files into the mirror, each completely or not at all.

        Parameters
        ----------
        sizes : mapping. The length of each file in bytes, by relative path.

        Raises
        ------
        RemoteError : when a file cannot be read, or has another length.
        """
        system, root = self._system()
        for names in _parts(list(sizes)):
            with ExitStack() as stack, _reporting(f"{self.url}/{names[0]}", "downloaded"):
                copies = [stack.enter_context(replacing(self.path / name)) for name in names]
                system.get([f"{root}/{name}" for name in names], [str(copy) for copy in copies])
                for name, copy in zip(names, copies, strict=True):
                    if (length := copy.stat().st_size) != sizes[name]:
                        raise RemoteError(f"{self.url}/{name} has {length} bytes, expected {sizes[name]}")

    def heads(self, sizes: Mapping[str, int], length: int) -> dict[str, bytes]:
        """Read the beginning of files.

        Parameters
        ----------
        sizes : mapping. The length of each file in bytes, by relative path.
        length : int. Largest number of bytes to read of each.

        Returns
        -------
        dict. The bytes of each file.
        """
        system, root = self._system()
        heads: dict[str, bytes] = dict.fromkeys(sizes, b"")
        for names in _parts([name for name, size in sizes.items() if size]):
            with _reporting(f"{self.url}/{names[0]}", "read"):
                paths, ends = [f"{root}/{name}" for name in names], [min(length, sizes[name]) for name in names]
                contents = system.cat_ranges(paths, [0] * len(names), ends, on_error="raise")
                heads |= zip(names, contents, strict=True)
        return heads

    def expect(self, *names: str) -> None:
        """Note that files are pending, before they are written, so that they are uploaded also after a kill."""
        for name in names:
            marker = self.path / ".pending" / name
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()

    def push(self, *names: str) -> None:
        """Upload files of the mirror that `expect` has noted; each is pending until then.

        Parameters
        ----------
        names : relative paths.

        Raises
        ------
        RemoteError : when a file cannot be written.
        """
        for name in names:
            self.upload(name)
            (self.path / ".pending" / name).unlink(missing_ok=True)

    def upload(self, name: str) -> None:
        """Upload one file of the mirror; raises `RemoteError`."""
        if self.url.startswith(("http://", "https://")):
            raise RemoteError(
                f"{self.url} can be read and not written, because a web server takes no files; write to a folder "
                "of this machine, or to a URL of another protocol, such as s3:// or gs://"
            )
        system, root = self._system()
        with _reporting(f"{self.url}/{name}", "written"):
            system.put_file(str(self.path / name), f"{root}/{name}")

    def remove(self, name: str) -> None:
        """Delete a file at the URL; it need not exist."""
        system, root = self._system()
        with _reporting(f"{self.url}/{name}", "deleted"):
            system.invalidate_cache()
            if system.exists(f"{root}/{name}"):
                system.rm_file(f"{root}/{name}")

    def _system(self) -> tuple[Any, str]:
        """The file system of the URL, and the path of the URL in it."""
        import fsspec

        with _reporting(self.url, "opened"):
            system, root = fsspec.core.url_to_fs(self.url)
        return system, str(root)

    def _copies(self) -> Iterator[str]:
        """Relative paths of the copies on this machine, without files whose name or folder begins with a dot."""
        for file in self.path.rglob("*"):
            name = file.relative_to(self.path).as_posix()
            if file.is_file() and _is_plain(name):
                yield name

    def _pending(self) -> list[str]:
        folder = self.path / ".pending"
        return [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*")) if file.is_file()]

    def _versions(self) -> dict[str, str]:
        """The versions of the copies, as far as they are known."""
        try:
            stored = json.loads((self.path / ".versions").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return stored if isinstance(stored, dict) else {}


def _informed(system: Any, names: list[str]) -> Mapping[str, Mapping[str, Any]]:
    """What a server says about each file, where its listing has names only, as that of http://."""
    if not names:
        return {}
    with ThreadPoolExecutor(min(len(names), _AT_ONCE)) as pool:
        return dict(zip(names, pool.map(system.info, names), strict=True))


def _is_plain(name: str) -> bool:
    """Whether a relative path stays in its folder, and is none of the files that a mirror has for itself."""
    return "\\" not in name and not any(part == "" or part.startswith(".") for part in name.split("/"))


def _version(info: Mapping[str, Any]) -> str:
    return " ".join(str(info[field]) for field in _VERSION if info.get(field))


def _parts(names: list[str]) -> Iterable[list[str]]:
    return (names[start : start + _AT_ONCE] for start in range(0, len(names), _AT_ONCE))


@contextmanager
def _reporting(place: str, action: str) -> Iterator[None]:
    """Turn every error of a protocol, each of which has its own, into a `RemoteError`."""
    try:
        yield
    except (RemoteError, ImportError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RemoteError(
            f"{place} cannot be {action}: {reason}; check the address, the credentials and the connection, then run "
            "the same command again: it continues with what is missing"
        ) from error
