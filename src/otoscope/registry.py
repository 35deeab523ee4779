"""Plug-ins by name: register, discover, and helpful errors.

A plug-in is a class registered under a name. Built-in ones are found by importing every module of their package;
installed ones through the entry-point group `otoscope.<kind>`; a single file through `load_plugin`.
The constructor's keyword-only parameters are the plug-in's option schema.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")

PLUGIN_PREFIX = "otoscope_plugin_"
"""How the names of modules that `load_plugin` makes begin."""


class UnknownNameError(LookupError):
    """A name nobody registered; the message lists what is there and what may have been meant."""


class DuplicateNameError(ValueError):
    """Two different plug-ins claim one name."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that is not there.

    >>> unknown("probe", "protbin", ["linear", "protobin"])
    "unknown probe 'protbin'; did you mean 'protobin'? known: linear, protobin"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"unknown {kind} {name!r}{hint} known: {', '.join(names)}"


class Registry(Generic[T]):
    """Classes of one kind ("probe", "encoder", "dataset") by name.

    `package` is the package whose modules hold the built-in plug-ins; it is imported on first use, not before.
    """

    def __init__(self, kind: str, package: str, group: str = "") -> None:
        self.kind, self.package, self._group = kind, package, group or f"otoscope.{kind}s"
        self._classes: dict[str, type[T]] = {}
        self._discovered = False

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator; sets `cls.name`. Registering another class under a taken name is an error."""

        def add(cls: type[T]) -> type[T]:
            held = self._classes.get(name)
            if held is not None and (held.__module__, held.__qualname__) != (cls.__module__, cls.__qualname__):
                raise DuplicateNameError(
                    f"{self.kind} {name!r} is registered twice: {held.__module__}.{held.__qualname__} and "
                    f"{cls.__module__}.{cls.__qualname__}; give one of them another name"
                )
            cls.name = name  # type: ignore[attr-defined]
            self._classes[name] = cls
            return cls

        return add

    def _discover(self) -> None:
        if self._discovered:
            return
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self.package}.{module.name}")
        for entry in importlib.metadata.entry_points(group=self._group):
            entry.load()
        self._discovered = True

    def names(self) -> list[str]:
        """All registered names, sorted."""
        self._discover()
        return sorted(self._classes)

    def get(self, name: str) -> type[T]:
        """The class of that name, or `UnknownNameError` with a suggestion."""
        self._discover()
        if name not in self._classes:
            raise UnknownNameError(unknown(self.kind, name, self._classes))
        return self._classes[name]

    def options(self, name: str) -> dict[str, inspect.Parameter]:
        """The keyword-only constructor parameters of a plug-in: its options and their defaults."""
        parameters = inspect.signature(self.get(name)).parameters
        return {k: p for k, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}

    def check_options(self, name: str, options: Iterable[str]) -> None:
        """Raise `TypeError` for an option the plug-in does not declare."""
        known = self.options(name)
        for option in options:
            if option not in known:
                raise TypeError(f"{self.kind} {name!r}: {unknown('option', option, known)}")

    def create(self, name: str, *args: Any, **options: Any) -> T:
        """Build a plug-in; unknown names and options raise with a suggestion."""
        self.check_options(name, options)
        return self.get(name)(*args, **options)

    @contextmanager
    def isolated(self) -> Iterator[None]:
        """Undo, at the end of the block, every registration made inside it.

        Plug-in files loaded inside the block are unloaded too, so that `load_plugin` reads them again. For tests.

        Examples
        --------
        >>> from otoscope.probes import registry
        >>> with registry.isolated():
        ...     _ = registry.register("louder")(type("Louder", (), {}))
        ...     "louder" in registry.names()
        True
        >>> "louder" in registry.names()
        False
        """
        self._discover()
        classes, modules = dict(self._classes), set(sys.modules)
        try:
            yield
        finally:
            self._classes = classes
            for module in [m for m in sys.modules if m.startswith(PLUGIN_PREFIX) and m not in modules]:
                del sys.modules[module]


def load_plugin(path: str | Path) -> None:
    """Import one Python file from outside the package so that what it registers can be used by name.

    The file's code runs: load only files you trust.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"no plug-in file at {path}; give the path of a .py file")
    name = f"{PLUGIN_PREFIX}{path.stem}"
    if name in sys.modules and getattr(sys.modules[name], "__file__", None) == str(path):
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file; a plug-in is a .py file that registers its classes")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
