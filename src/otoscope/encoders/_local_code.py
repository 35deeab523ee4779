"""Python files with encoders, and the files beside them that they import: loading them, and their digest."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from otoscope.registry import PLUGIN_PREFIX, load_plugin

_LOADED: dict[str, str] = {}
"""The digest of the code of each loaded file when it was loaded, by path."""
_BESIDE: dict[str, Path] = {}
"""The folder of each module that was imported from beside a file, by the first part of its name."""


def local_files(file: Path) -> list[Path]:
    """List a Python file and the files beside it that it imports, directly or through others, without executing them.

    Of a package beside it, all files count.

    Parameters
    ----------
    file : path of the .py file.
    """
    return sorted(path for paths in _imported(file).values() for path in paths)


def source_digest(file: str | Path) -> str:
    """The sha256 of a Python file and of the files beside it that it imports; installed packages do not count."""
    path = Path(file).resolve()
    files = local_files(path)
    digests = {name: hashlib.sha256(name.read_bytes()).hexdigest() for name in files}
    if len(files) == 1:
        return digests[path]
    text = "\n".join(f"{name.relative_to(path.parent).as_posix()} {digest}" for name, digest in digests.items())
    return hashlib.sha256(text.encode()).hexdigest()


def load_file(file: str | Path) -> ModuleType:
    """Import a Python file with `load_plugin`; again where it, or a file beside it that it imports, has changed.

    Parameters
    ----------
    file : path of the .py file.

    Raises
    ------
    FileNotFoundError, ImportError : as in `load_plugin`.
    """
    path = Path(file).resolve()
    name, digest = f"{PLUGIN_PREFIX}{path.stem}", _digest_or_none(path)
    if _LOADED.get(str(path), digest) != digest:
        sys.modules.pop(name, None)
        _forget(top for top, folder in _BESIDE.items() if folder == path.parent)
    with imports_beside(path):
        load_plugin(path)
    if digest is not None:
        _LOADED[str(path)] = digest
    return sys.modules[name]


@contextmanager
def imports_beside(file: str | Path) -> Iterator[None]:
    """Return a context manager in which a module imports the files beside it, not those of equal name beside another.

    Parameters
    ----------
    file : path of the .py file of the module.
    """
    path = Path(file).resolve()
    names = [top for top in _imported(path) if top] if _digest_or_none(path) else []
    _forget(name for name in names if _BESIDE.get(name, path.parent) != path.parent)
    sys.path.insert(0, str(path.parent))
    try:
        yield
    finally:
        sys.path.remove(str(path.parent))
        for name in names:
            origin = getattr(sys.modules.get(name), "__file__", None)
            if origin is not None and Path(origin).resolve().is_relative_to(path.parent):
                _BESIDE[name] = path.parent


def _digest_or_none(path: Path) -> str | None:
    """The digest of a file, or None where it cannot be read as Python, which importing it explains."""
    try:
        return source_digest(path)
    except (OSError, SyntaxError, ValueError):
        return None


def _forget(names: Iterable[str]) -> None:
    """Remove modules and what is in them from the imported ones, so that they are imported again."""
    for top in list(names):
        _BESIDE.pop(top, None)
        for name in [name for name in sys.modules if name == top or name.startswith(f"{top}.")]:
            del sys.modules[name]


def _imported(file: Path) -> dict[str, set[Path]]:
    """The local files by the first part of the name by which they are imported; "" for the file itself."""
    found: dict[str, set[Path]] = {"": {file}}
    remaining = [file]
    while remaining:
        for name in _names(remaining.pop()):
            parts = name.split(".")
            new = _files_of(file.parent, parts) - set().union(*found.values())
            if new:
                found.setdefault(parts[0], set()).update(new)
                remaining += new
    return found


def _names(file: Path) -> set[str]:
    """The names that a file imports from the top of the search path."""
    names = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _files_of(folder: Path, parts: list[str]) -> set[Path]:
    """The files of a module below a folder: those of its package, or its own; none for one that is elsewhere."""
    package = folder / parts[0]
    if (package / "__init__.py").is_file():
        return set(package.rglob("*.py"))
    files = [folder.joinpath(*parts[:count]).with_suffix(".py") for count in range(1, len(parts) + 1)]
    return {file for file in files if file.is_file()}
