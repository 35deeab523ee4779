"""What identifies a plug-in: its name, its class, its options and the revision of its code.

The identity decides whether stored tokens and results belong to an encoder, a data set and a probe. Versions of
packages are not part of it: they are recorded with each bank and each result, and an upgrade changes no identity.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import CodeType
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from otoscope.local_code import source_digest


def _code_of(cls: type) -> str:
    """The revision that a class declares; without one, for a plug-in, the digest of its source file at this moment."""
    revision = vars(cls).get("revision")
    if revision is None:
        return "" if cls.__module__.split(".")[0] == __package__ else _source_digest(cls)
    if isinstance(revision, bool) or not isinstance(revision, int):
        raise TypeError(
            f"class {cls.__name__}: revision must be a whole number, found {revision!r}; increase it when the meaning "
            "of the code changes, or leave it out to identify the class by its source file"
        )
    return f"{cls.__name__}-{revision}"


def _source_digest(cls: type) -> str:
    """The sha256 of the file that defines a class and of the files beside it that it imports.

    Where there is no file, it is that of the attributes and the bytecode of the class.
    """
    try:
        return source_digest(inspect.getfile(cls))[:16]
    except (TypeError, OSError, SyntaxError, ValueError):
        names = sorted(name for name in vars(cls) if name == "__init__" or not name.startswith(("__", "_abc")))
        content = repr([(name, _attribute(vars(cls)[name])) for name in names]).encode()
        return hashlib.sha256(content).hexdigest()[:16]


def _attribute(value: Any) -> Any:
    """An attribute of a class as plain values: the bytecode of a function, the canonical form of another value."""
    function = getattr(value, "__func__", getattr(value, "fget", value))
    code = function if isinstance(function, CodeType) else getattr(function, "__code__", None)
    if code is None:
        return canonical(value)
    return [code.co_code, code.co_names, [_attribute(constant) for constant in code.co_consts]]


class Revised:
    """A base class of plug-ins whose code has a revision.

    Attributes
    ----------
    revision : number of the version of the code of this class. Its author increases it when the same options give other
        values, and when the default of an option changes. It applies to the class that declares it, not to subclasses.
        Without it, a class of otoscope has no revision yet, and a class of a plug-in is identified by the content of
        its source file and of the files beside it that it imports, so every change of these files counts.
    """

    revision: ClassVar[int]
    _identified_code: ClassVar[str] = ""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls._identified_code = _code_of(cls)

    @classmethod
    def code(cls) -> str:
        """Return the revisions or source digests of this class and of the classes from which it is derived.

        The text is empty for a class of otoscope without a revision.
        """
        codes = [vars(base).get("_identified_code", "") for base in cls.__mro__]
        return " ".join(dict.fromkeys(filter(None, codes)))


class Identified(Revised):
    """A base class of plug-ins whose instances are identified by their options and their code.

    Attributes
    ----------
    name : the registered name.
    provenance : names of options that only say where something is stored. They are not part of the identity.
    """

    name: ClassVar[str]
    provenance: ClassVar[tuple[str, ...]] = ()
    _identified_options: str

    def __new__(cls, /, *arguments: Any, **options: Any) -> Self:
        if cls.__init__ is object.__init__ and (arguments or options):
            raise TypeError(f"{cls.__name__} has no options, found {[*arguments, *options]}")
        instance = super().__new__(cls)
        instance.__dict__["_identified_options"] = _options_text(cls, arguments, options)
        return instance

    @property
    def options_text(self) -> str:
        """The options as canonical JSON: sorted by name, without defaults and without those of `provenance`."""
        return self._identified_options

    @property
    def code_text(self) -> str:
        """The name of the class, followed by `code`."""
        return f"{type(self).__name__} {self.code()}".rstrip()


def digest_of(*parts: Any) -> str:
    """Return the sha256 of plain values.

    Examples
    --------
    >>> digest_of("tiny", {"a": 1, "b": 2}) == digest_of("tiny", {"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _options_text(cls: type[Identified], arguments: tuple[Any, ...], options: Mapping[str, Any]) -> str:
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    positional = dict(zip((p.name for p in parameters), arguments, strict=False))
    defaults = {p.name: canonical(p.default) for p in parameters if p.default is not inspect.Parameter.empty}
    given = {name: canonical(value) for name, value in {**positional, **options}.items() if name not in cls.provenance}
    chosen = {name: value for name, value in given.items() if name not in defaults or defaults[name] != value}
    return json.dumps(chosen, sort_keys=True)


def canonical(value: Any) -> Any:
    """Convert the value of an option to plain JSON values that are the same in every process.

    Numbers that are whole become integers, sets are sorted, arrays are replaced by their digest, functions by their
    name, and other objects by their class and attributes.

    Parameters
    ----------
    value : the value.

    Returns
    -------
    None, bool, int, float, str, list or dict.

    Examples
    --------
    >>> canonical((5.0, Path("a/b"), {3, 1}))
    [5, 'a/b', [1, 3]]
    """
    return _canonical(value, frozenset())


def _canonical(value: Any, inside: frozenset[int]) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if id(value) in inside:
        return "recursive"
    inside |= {id(value)}
    if isinstance(value, Mapping):
        return {str(key): _canonical(item, inside) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item, inside) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_canonical(item, inside) for item in value), key=json.dumps)
    if isinstance(value, functools.partial):
        return ["partial", *(_canonical(part, inside) for part in (value.func, value.args, value.keywords))]
    return _canonical_object(value, inside)


def _canonical_object(value: Any, inside: frozenset[int]) -> Any:
    """The canonical form of a value that is no JSON value."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, np.generic):
        return _canonical(value.item(), inside)
    if isinstance(value, Identified):
        return [value.code_text, value.options_text]
    if isinstance(value, Tensor):
        tensor = value.detach().cpu().contiguous()
        return [str(tensor.dtype), _canonical_object(tensor.view(-1).view(torch.uint8).numpy(), inside)]
    if isinstance(value, np.ndarray) and value.dtype != object:
        return [str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    if isinstance(value, type) or inspect.isroutine(value):
        return f"{value.__module__}.{value.__qualname__}"
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if attributes := getattr(value, "__dict__", None):
        return [kind, _canonical(attributes, inside)]
    return [kind, re.sub(r" at 0x[0-9a-f]+", "", repr(value))]
