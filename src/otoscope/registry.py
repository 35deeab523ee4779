"""Registries of plug-ins: classes by name.

Built-in plug-ins register when the modules of their package are imported, installed ones through the entry-point group
`otoscope.<kind>s`, and those in a single file through `load_plugin`. The options of a plug-in are the keyword-only
parameters of its constructor.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")

PLUGIN_PREFIX = "otoscope_plugin_"
"""Prefix of the names of the modules that `load_plugin` creates."""


class UnknownNameError(LookupError):
    """No plug-in is registered under this name. The message lists all names and suggests the closest one."""


class DuplicateNameError(ValueError):
    """Two different plug-ins are registered under one name."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the error message for a name that does not exist.

    Parameters
    ----------
    kind : what the name refers to, such as "probe" or "option".
    name : the name.
    known : the names that exist.

    Examples
    --------
    >>> unknown("probe", "protbin", ["linear", "protobin"])
    "unknown probe 'protbin'; did you mean 'protobin'? known: linear, protobin"
    >>> unknown("metric", "map", ["F1", "mAP"])
    "unknown metric 'map'; did you mean 'mAP'? known: F1, mAP"
    """
    names = sorted(known)
    close = closest(name, names)
    hint = f"; did you mean {close!r}?" if close else ";"
    return f"unknown {kind} {name!r}{hint} known: {', '.join(names) or 'none'}"


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like a name, upper and lower case alike; None if there is none like it.

    Parameters
    ----------
    name : the name.
    known : the names that exist.

    Examples
    --------
    >>> closest("map", ["F1", "mAP"]), closest("x", ["F1", "mAP"])
    ('mAP', None)
    """
    folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold(), folded, 1)
    return folded[close[0]] if close else None


@cache
def _keyword_only(cls: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters of a class's constructor, by name."""
    parameters = inspect.signature(cls).parameters
    return {name: p for name, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


class Registry(Generic[T]):
    """The plug-ins of one kind by name.

    Parameters
    ----------
    kind : the kind, such as "probe", "encoder" or "dataset".
    package : the package whose modules contain the built-in plug-ins. They are imported at the first look-up.
    """

    def __init__(self, kind: str, package: str, group: str = "") -> None:
        self.kind, self.package, self._group = kind, package, group or f"otoscope.{kind}s"
        self._classes: dict[str, type[T]] = {}
        self._discovered = False

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Return a class decorator that registers the class and sets its attribute `name`.

        Parameters
        ----------
        name : name of the plug-in.

        Raises
        ------
        DuplicateNameError : when another class is registered under this name.
        TypeError : when the class lacks a method or property that its base class requires.
        """

        def add(cls: type[T]) -> type[T]:
            other = self._classes.get(name)
            self._check_complete(name, cls)
            if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
                raise DuplicateNameError(
                    f"{self.kind} {name!r} is registered twice: {other.__module__}.{other.__qualname__} and "
                    f"{cls.__module__}.{cls.__qualname__}; give one of them another name"
                )
            cls.name = name  # type: ignore[attr-defined]
            self._classes[name] = cls
            return cls

        return add

    def _check_complete(self, name: str, cls: type[T]) -> None:
        """Raise `TypeError` if the class lacks something that its base class requires."""
        missing = sorted(getattr(cls, "__abstractmethods__", ()))
        if missing:
            raise TypeError(
                f"{self.kind} {name!r} lacks {' and '.join(map(repr, missing))}: define "
                f"{'it' if len(missing) == 1 else 'them'} in the body of the class {cls.__name__}, as its base class "
                "does; an attribute that __init__ sets does not count"
            )

    def _discover(self) -> None:
        if self._discovered:
            return
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self.package}.{module.name}")
        from importlib.metadata import entry_points

        for entry in entry_points(group=self._group):
            entry.load()
        self._discovered = True

    def names(self) -> list[str]:
        """Return all registered names, sorted."""
        self._discover()
        return sorted(self._classes)

    def get(self, name: str) -> type[T]:
        """Return the class of this name; raise `UnknownNameError` with a suggestion if there is none."""
        self._discover()
        if name not in self._classes:
            raise UnknownNameError(
                f"{unknown(self.kind, name, self._classes)}; a plug-in is loaded with --plugin FILE, or in Python with "
                "otoscope.load_plugin"
            )
        return self._classes[name]

    def options(self, name: str) -> dict[str, inspect.Parameter]:
        """Return the options of a plug-in: the keyword-only parameters of its constructor, by name."""
        cls: Any = self.get(name)
        return dict(_keyword_only(cls))

    def check_options(self, name: str, options: Iterable[str]) -> None:
        """Raise `TypeError` with a suggestion if the plug-in does not have one of these options."""
        known = self.options(name)
        for option in options:
            if option not in known:
                raise TypeError(f"{self.kind} {name!r}: {unknown('option', option, known)}")

    def create(self, name: str, *args: Any, **options: Any) -> T:
        """Build a plug-in.

        Parameters
        ----------
        name : a registered name.
        args : positional arguments of the constructor.
        options : options of the plug-in.

        Raises
        ------
        UnknownNameError : when no plug-in of this name is registered.
        TypeError : when the plug-in has no such option, when an option without a default is missing, or when the
            constructor sets a property of the base class.
        """
        self.check_options(name, options)
        required = [k for k, option in self.options(name).items() if option.default is inspect.Parameter.empty]
        missing = [option for option in required if option not in options]
        if missing:
            raise TypeError(f"{self.kind} {name!r} needs a value for the option {' and '.join(map(repr, missing))}")
        try:
            return self.get(name)(*args, **options)
        except AttributeError as error:
            if "has no setter" not in str(error) and "can't set attribute" not in str(error):
                raise
            raise TypeError(
                f"{self.kind} {name!r}: {error}, because its base class defines a property; define it in the body of "
                "the class, and keep the value that __init__ computes under another name"
            ) from error

    @contextmanager
    def isolated(self) -> Iterator[None]:
        """Return a context manager that undoes all registrations made inside its block. It is meant for tests.

        Plug-in files that were loaded inside the block are unloaded, so that `load_plugin` loads them again.

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
    """Import a Python file so that the plug-ins it registers can be used by name.

    The code of the file is executed, so load only files that you trust. It can import files beside it. A file that is
    loaded already is not loaded again.

    Parameters
    ----------
    path : path of the file.

    Raises
    ------
    FileNotFoundError : when there is no such file.
    ImportError : when it is not a Python file, or when its syntax is not valid.
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
    sys.path.insert(0, str(path.parent))  # files beside it can be imported, as when Python runs it
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, SyntaxError):
            raise ImportError(f"{error.filename}, line {error.lineno}: {error.msg}") from error
        raise
    finally:
        sys.path.remove(str(path.parent))
