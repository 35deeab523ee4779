"""Writing files atomically, names of files, and text in JSON."""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces `target` on success and is deleted on an error.

    If the process is killed at any time, `target` is either unchanged or complete.

    Parameters
    ----------
    target : Path. The file to write; its folder is created if needed.

    Yields
    ------
    Path. An empty temporary file in the same folder.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def json_text(value: Any, *, indent: int | None = 1, sort_keys: bool = False) -> str:
    """Write a value as JSON (RFC 8259), which has no NaN and no infinity: such numbers become null.

    Parameters
    ----------
    value : plain values, and lists and dictionaries of them.
    indent, sort_keys : as for `json.dumps`.

    Examples
    --------
    >>> json_text({"AUROC": math.nan, "F1": 0.5}, indent=None)
    '{"AUROC": null, "F1": 0.5}'
    """
    return json.dumps(_finite(value), indent=indent, sort_keys=sort_keys, allow_nan=False)


def json_number(value: float | None) -> float:
    """Read a number that `json_text` wrote: null stands for nan.

    Examples
    --------
    >>> json_number(None), json_number(0.5)
    (nan, 0.5)
    """
    return math.nan if value is None else value


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def file_name(text: str) -> str:
    """Turn a text into the name of a file, with hyphens in place of characters that are not allowed in file names.

    Examples
    --------
    >>> file_name("tiny x esc50, fold 2 [a1]")
    'tiny-x-esc50-fold-2-a1'
    """
    return re.sub(r"[^\w.+-]+", "-", text).strip("-")
