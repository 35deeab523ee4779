"""Names of encoders that are stored elsewhere, such as "hf:openai/whisper-tiny" or "py:mine.py:Mine".

The part before the first colon is a registered name. The text after it gives the options that the attribute `written`
of the class names: "path@revision" stands for a path and, after the last "@", a revision.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REMOTE_CODE = "trust_remote_code"
"""The option with which an encoder executes Python code of a repository. Only the command line and Python set it."""
_CODE = (".py", ".onnx")


def options_of_text(name: str, written: str, text: str) -> dict[str, Any]:
    """Compute the options that the text after the first colon of a name gives.

    Parameters
    ----------
    name : the registered name, for messages.
    written : names of one or two options with the character between them, such as "path@revision"; "" for none.
    text : the text. Where a file or folder of this name exists, it is the first option as a whole.

    Returns
    -------
    The options that are given.

    Raises
    ------
    ValueError : when the encoder has no such text, or a part of it is empty.

    Examples
    --------
    >>> options_of_text("hf", "path@revision", "openai/whisper-tiny@0123")
    {'path': 'openai/whisper-tiny', 'revision': '0123'}
    >>> options_of_text("hear", "module:weights", "hearbaseline")
    {'module': 'hearbaseline'}
    """
    if not written:
        raise ValueError(f"encoder {name!r} has no text after a colon, found {text!r}; give its options by name")
    first, separator, second = _split(written)
    if text.startswith("~"):
        text = str(Path(text).expanduser())
    given, at, other = (text, "", "") if not separator or Path(text).exists() else text.rpartition(separator)
    if not at:
        given, other = text, ""
    if not given or (at and not other):
        raise ValueError(f"encoder '{name}:{text}' is not complete; write {form_of(name, written)}")
    return {first: given} | ({second: other} if other else {})


def form_of(name: str, written: str) -> str:
    """Show how an encoder is named.

    Parameters
    ----------
    name, written : as in `options_of_text`.

    Examples
    --------
    >>> form_of("hf", "path@revision"), form_of("py", "file:cls"), form_of("tiny", "")
    ('hf:PATH[@REVISION]', 'py:FILE[:CLS]', 'tiny')
    """
    first, separator, second = _split(written)
    return ":".join(filter(None, (name, first.upper()))) + (f"[{separator}{second.upper()}]" if second else "")


def label_of(name: str, written: str, options: Mapping[str, Any]) -> str:
    """Compute the label of an encoder in results: short, and for people.

    Parameters
    ----------
    name : the registered name.
    written : as in `options_of_text`.
    options : the options that identify it, and those of `written`.

    Returns
    -------
    The name of the file, folder, repository or module in place of `name`, where there is one; then the class or weights
    after a colon, but no revision; then the other options.

    Examples
    --------
    >>> label_of("hf", "path@revision", {"path": "openai/whisper-tiny", "revision": "0123", "weights": "random"})
    'whisper-tiny-random'
    >>> label_of("py", "file:cls", {"file": "/home/me/mine.py", "cls": "Ears", "seed": 1})
    'mine-Ears-seed=1'
    """
    first, separator, second = _split(written)
    shown = [first, second] if separator == ":" else [first]
    parts = [_short(str(options[option])) for option in shown if options.get(option) is not None]
    others = sorted((option, value) for option, value in options.items() if option not in (first, second, REMOTE_CODE))
    return "-".join([*(parts or [name]), *option_texts(others)])


def option_texts(options: list[tuple[str, Any]]) -> list[str]:
    """Write options as parts of a name: the value of a text, "option=value" for others.

    >>> option_texts([("weights", "random"), ("seed", 1)])
    ['random', 'seed=1']
    """
    return [value if isinstance(value, str) else f"{option}={value}" for option, value in options]


def written_options(written: str) -> tuple[str, ...]:
    """The names of the options in `written`.

    >>> written_options("path@revision")
    ('path', 'revision')
    """
    first, _, second = _split(written)
    return tuple(filter(None, (first, second)))


def _split(written: str) -> tuple[str, str, str]:
    """The first option, the character between both, and the second option.

    >>> _split("path@revision"), _split("path")
    (('path', '@', 'revision'), ('path', '', ''))
    """
    first, *rest = re.split(r"([@:])", written, maxsplit=1)
    return (first, rest[0], rest[1]) if rest else (first, "", "")


def _short(text: str) -> str:
    """The last part of a path, a repository or a module, without the suffix of code or of a graph."""
    last = Path(text.rstrip("/\\").replace("\\", "/")).name or text
    return Path(last).stem if Path(last).suffix in _CODE else last
