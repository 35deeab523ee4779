"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary sibling to write to; on success it is renamed over `target`, on failure it is removed.

    A kill at any instant leaves the target as it was or as it should be, never half.
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


def file_name(text: str) -> str:
    """A name for files, with a hyphen in place of every character that may not be part of one.

    >>> file_name("tiny x esc50, fold 2 [a1]")
    'tiny-x-esc50-fold-2-a1'
    """
    return re.sub(r"[^\w.+-]+", "-", text).strip("-")
