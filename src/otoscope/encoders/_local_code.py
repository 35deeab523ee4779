"""Python files with encoders: loading them with the files beside them, again where one has changed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from otoscope.local_code import imported_files, source_digest
from otoscope.registry import PLUGIN_PREFIX, load_plugin

_LOADED: dict[str, str] = {}
"""The digest of the code of each loaded file when it was loaded, by path."""
_BESIDE: dict[str, Path] = {}
"""The folder of each module that was imported from beside a file, by the first part of its name."""


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
    names = [top for top in imported_files(path) if top] if _digest_or_none(path) else []
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
