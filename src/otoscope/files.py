"""Writing files atomically, and names of files."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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


def file_name(text: str) -> str:
    """Turn a text into the name of a file, with hyphens in place of characters that are not allowed in file names.

    Examples
    --------
    >>> file_name("tiny x esc50, fold 2 [a1]")
    'tiny-x-esc50-fold-2-a1'
    """
    return re.sub(r"[^\w.+-]+", "-", text).strip("-")
