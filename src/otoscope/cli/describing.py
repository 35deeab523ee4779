"""The description of one plug-in, which `otoscope list KIND NAME` prints: its options, defaults, values and ranges."""

from __future__ import annotations

import inspect
import re
import textwrap
import typing
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from otoscope.registry import Registry

_WIDTH = 100


def describe(registry: Registry[Any], name: str) -> str:
    """Describe a plug-in.

    Parameters
    ----------
    registry : the plug-ins of its kind.
    name : a registered name.

    Returns
    -------
    The name with the first line of its documentation, one paragraph for each option, and the ranges that a search
    tries.

    Raises
    ------
    UnknownNameError : when no plug-in of this name is registered.

    Examples
    --------
    >>> from otoscope.probes import registry
    >>> print(describe(registry, "conv").partition("  a search")[2])
     tries a learning rate of 0.0001 to 0.007 and a weight decay of 1e-05 to 0.0005
    """
    plugin = registry.get(name)
    hints, documented = _hints(plugin), _documented(plugin)
    lines = [f"{name}: {(plugin.__doc__ or '').strip().partition(chr(10))[0]}"]
    for option, parameter in registry.options(name).items():
        required = parameter.default is inspect.Parameter.empty
        lines.append(f"  {option}" + (" (no default)" if required else f" = {_value(parameter.default)}"))
        words = _values(hints.get(option)) + documented.get(option, "")
        lines += textwrap.wrap(words, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    if not registry.options(name):
        lines.append("  no options")
    return "\n".join([*lines, *_searched(registry, name)])


def _searched(registry: Registry[Any], name: str) -> list[str]:
    """A sentence on the ranges that a search of a probe tries; none for what is not trained by gradient."""
    if registry.kind != "probe":
        return []
    from otoscope.probes import solver_of

    solver, choice = solver_of(name, {}), registry.options(name).get("solver")
    if solver != "adamw" and choice is None:
        return []
    lr, decay = registry.get(name).lr, registry.get(name).weight_decay
    condition = "" if solver == "adamw" else 'with solver = "adamw", '
    return [
        f"  {condition}a search tries a learning rate of {lr.low:g} to {lr.high:g} and a weight decay of "
        f"{decay.low:g} to {decay.high:g}"
    ]


def _hints(plugin: type[Any]) -> dict[str, Any]:
    """The types of the options; empty where a type cannot be resolved."""
    try:
        return typing.get_type_hints(plugin.__init__)
    except (NameError, TypeError):
        return {}


def _values(hint: Any) -> str:
    """The values that a type allows, as the beginning of a sentence; "" where the type says nothing."""
    choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
    if choices:
        return f"one of {', '.join(map(_value, choices))}. "
    names = [kind.__name__ for kind in (hint, *typing.get_args(hint)) if kind in (bool, int, float, str)]
    return f"{names[0]}. " if names else ""


def _value(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _documented(plugin: type[Any]) -> dict[str, str]:
    """The descriptions of options in the sections "Parameters" of a class and of its base classes."""
    described: dict[str, str] = {}
    for cls in reversed(inspect.getmro(plugin)):
        text = inspect.cleandoc(cls.__doc__ or "")
        section = re.search(r"^Parameters\n-+\n(.*?)(?:\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
        for item in re.split(r"\n(?=\w)", section[1]) if section else ():
            names, _, words = item.partition(" : ")
            sentence = re.sub(r"\s+", " ", words).strip()
            described |= {name: sentence[:1].upper() + sentence[1:] for name in names.split(", ")}
    return described
