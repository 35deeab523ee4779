"""Sources of several files of which some are missing: shards of a data set, and splits that are declared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from otoscope.datasets.sources.settings import Settings

_SHARD = re.compile(r"(.*?)[-_.](\d+)-of-(\d+)(?!\d)")


def missing_shards(paths: Iterable[Path]) -> str:
    """Describe the shards that are missing, as the names of the others tell; "" if there are all.

    Parameters
    ----------
    paths : files, such as "train-00000-of-00003.parquet".

    Examples
    --------
    >>> missing_shards([Path("data/train-00000-of-00003.parquet"), Path("data/test.parquet")])
    "2 of 3 files 'train-*-of-00003' are missing: number 1, 2"
    >>> missing_shards([Path("a-0-of-2.tar"), Path("a-1-of-2.tar")])
    ''
    """
    present: dict[tuple[Path, str, str], set[int]] = {}
    for path in paths:
        if match := _SHARD.match(path.name):
            present.setdefault((path.parent, match[1], match[3]), set()).add(int(match[2]))
    sentences = []
    for (_, name, total), numbers in present.items():
        first = 1 if int(total) in numbers and 0 not in numbers else 0
        missing = [number for number in range(first, first + int(total)) if number not in numbers]
        if missing:
            some = ", ".join(map(str, missing[:5])) + (" ..." if len(missing) > 5 else "")
            sentences.append(f"{len(missing)} of {int(total)} files '{name}-*-of-{total}' are missing: number {some}")
    return "; ".join(sentences)


def expect_all(place: Path, missing: str, settings: Settings) -> list[str]:
    """Refuse a source of which something is missing, unless the settings leave out what is bad.

    Parameters
    ----------
    place : the source, for the message.
    missing : a sentence about what is missing; "" for nothing.
    settings : the settings with `on_bad`.

    Returns
    -------
    The sentence, if there is one.

    Raises
    ------
    ValueError : when something is missing and `on_bad` is "fail".
    """
    if missing and settings.on_bad == "fail":
        raise ValueError(f"{place} is incomplete: {missing}; get it again, or use what is there with --on-bad skip")
    return [missing] if missing else []


def missing_splits(declared: Sequence[str], present: Sequence[str]) -> str:
    """Describe the splits that are declared and not present; "" if there are all.

    Examples
    --------
    >>> missing_splits(["train", "valid", "test"], ["test", "train"])
    "split 'valid' is declared, and there is no file for it"
    """
    missing = [name for name in declared if name not in present]
    named = ", ".join(map(repr, missing))
    if len(missing) > 1:
        return f"splits {named} are declared, and there are no files for them"
    return f"split {named} is declared, and there is no file for it" if missing else ""
