"""Clips whose audio files have the same content, in different splits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress

from otoscope.datasets._content import bound_audio
from otoscope.datasets._file_digests import FileDigests
from otoscope.types import Clip


def equal_audio(clips: Mapping[str, Sequence[Clip]]) -> dict[tuple[str, str], list[tuple[Clip, Clip]]]:
    """Find clips of different splits whose files have the same content.

    Only files of equal size are read, once each: their digests are kept in the cache folder of the user. Clips whose
    audio is not in a file that `Clip.path` names are not compared.

    Parameters
    ----------
    clips : the clips by split.

    Returns
    -------
    For each pair of splits with such clips, the pairs of clips. Each later clip occurs once, beside the first clip with
    the same content.
    """
    sizes = {split: [_size(clip) for clip in members] for split, members in clips.items()}
    splits_of_size: dict[int, set[str]] = {}
    for split, found in sizes.items():
        for size in found:
            splits_of_size.setdefault(size, set()).add(split)
    files, first = FileDigests(), dict[str, tuple[str, Clip]]()
    equal: dict[tuple[str, str], list[tuple[Clip, Clip]]] = {}
    for split, members in clips.items():
        for clip, size in zip(members, sizes[split], strict=True):
            content = bound_audio(clip, files) if size and len(splits_of_size[size]) > 1 else None
            if content is None:
                continue
            other_split, other = first.setdefault(json.dumps(content, default=str), (split, clip))
            if other_split != split:
                equal.setdefault((other_split, split), []).append((other, clip))
    files.save()
    return equal


def _size(clip: Clip) -> int:
    """The size of the file of a clip in bytes; 0 for a clip without a file."""
    if clip.path is not None:
        with suppress(OSError):
            return clip.path.stat().st_size
    return 0
