"""The Python files beside a file that it imports: they are code of the user, as the file itself is."""

from __future__ import annotations

import ast
import hashlib
from functools import lru_cache
from pathlib import Path


def local_files(file: Path) -> list[Path]:
    """List a Python file and the files beside it that it imports, directly or through others, without executing them.

    Of a package beside it, all files count.

    Parameters
    ----------
    file : path of the .py file.
    """
    return sorted(path for paths in imported_files(file).values() for path in paths)


def source_digest(file: str | Path) -> str:
    """The sha256 of a Python file and of the files beside it that it imports; installed packages do not count."""
    path = Path(file).resolve()
    files = local_files(path)
    digests = {name: hashlib.sha256(name.read_bytes()).hexdigest() for name in files}
    if len(files) == 1:
        return digests[path]
    text = "\n".join(f"{name.relative_to(path.parent).as_posix()} {digest}" for name, digest in digests.items())
    return hashlib.sha256(text.encode()).hexdigest()


def imported_files(file: Path) -> dict[str, set[Path]]:
    """The local files by the first part of the name by which they are imported; "" for the file itself."""
    found: dict[str, set[Path]] = {"": {file}}
    remaining = [file]
    while remaining:
        path = remaining.pop()
        status = path.stat()
        for name in _names(path, status.st_size, status.st_mtime_ns):
            parts = name.split(".")
            new = _files_of(file.parent, parts) - set().union(*found.values())
            if new:
                found.setdefault(parts[0], set()).update(new)
                remaining += new
    return found


@lru_cache(maxsize=256)
def _names(file: Path, size: int, modified: int) -> frozenset[str]:  # noqa: ARG001
    """The names that a file imports from the top of the search path."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def _files_of(folder: Path, parts: list[str]) -> set[Path]:
    """The files of a module below a folder: those of its package, or its own; none for one that is elsewhere."""
    package = folder / parts[0]
    if (package / "__init__.py").is_file():
        return set(package.rglob("*.py"))
    files = [folder.joinpath(*parts[:count]).with_suffix(".py") for count in range(1, len(parts) + 1)]
    return {file for file in files if file.is_file()}
