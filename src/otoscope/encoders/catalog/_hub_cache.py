"""Files that the library huggingface_hub has already downloaded onto this machine."""

from __future__ import annotations

import os
import re
from pathlib import Path

_ADDRESS = re.compile(r"https://huggingface\.co/(datasets/)?([^/]+)/([^/]+)/resolve/([^/]+)/([^?]+)")


def hub_cache() -> Path:
    """Return the cache folder of huggingface_hub: HF_HUB_CACHE, `hub` in HF_HOME, or in ~/.cache/huggingface."""
    if given := os.environ.get("HF_HUB_CACHE"):
        return Path(given).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser() / "hub"


def cached_file(url: str) -> Path | None:
    """Find a file of the Hugging Face hub in the cache.

    Parameters
    ----------
    url : its address, https://huggingface.co/OWNER/NAME/resolve/REVISION/FILE.

    Returns
    -------
    The file; None where it is not in the cache, and for other addresses.
    """
    address = _ADDRESS.match(url)
    if not address:
        return None
    data, owner, name, revision, file = address.groups()
    folder = hub_cache() / f"{'datasets' if data else 'models'}--{owner}--{name}"
    reference = folder / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    path = folder / "snapshots" / commit / file
    return path if path.is_file() else None
