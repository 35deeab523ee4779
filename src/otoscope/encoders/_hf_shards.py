"""Downloads of large checkpoints of which a part is needed: only the files that contain it are fetched."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

INDEX = "model.safetensors.index.json"
"""The file of a checkpoint in several files that says which tensor is in which of them."""


@contextmanager
def part_of_repository(path: str, revision: str, prefix: str) -> Iterator[Path | None]:
    """Download the files of a repository that contain the tensors of a part, into the cache of the hub.

    Parameters
    ----------
    path : name of a repository on the Hugging Face hub.
    revision : the 40 hexadecimal digits of a commit.
    prefix : prefix of the names of the tensors, possibly after other parts of a name; a regular expression.

    Yields
    ------
    A temporary folder in which `from_pretrained` finds these files; None where the checkpoint is a single file, where
    all of its files are needed, and where its index cannot be had.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        index = json.loads(Path(hf_hub_download(path, INDEX, revision=revision)).read_text(encoding="utf-8"))
        every: dict[str, str] = index["weight_map"]
    except (HfHubHTTPError, OSError, ValueError, KeyError):  # from_pretrained says what is wrong, if anything is
        yield None
        return
    wanted = {name: file for name, file in every.items() if re.match(rf"(?:.*\.)?{prefix}\.", name)}
    if not wanted or set(wanted.values()) == set(every.values()):
        yield None
        return
    with TemporaryDirectory() as folder:
        for file in sorted(set(wanted.values())):
            _link(Path(hf_hub_download(path, file, revision=revision)).resolve(), Path(folder) / file)
        (Path(folder) / INDEX).write_text(json.dumps(index | {"weight_map": wanted}), encoding="utf-8")
        yield Path(folder)


def _link(file: Path, link: Path) -> None:
    """Make a link to a file, or a copy where links are not allowed, as for most users of Windows."""
    try:
        link.symlink_to(file)
    except OSError:
        shutil.copyfile(file, link)
