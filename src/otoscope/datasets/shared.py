"""Clips with the same audio."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress

from otoscope.datasets._content import bound_audio
from otoscope.datasets._file_digests import FileDigests
from otoscope.datasets.column import ids_of
from otoscope.types import Clip


def equal_audio(
    clips: Mapping[str, Sequence[Clip]], contents: Mapping[str, str] | None = None
) -> dict[tuple[str, str], list[tuple[Clip, Clip]]]:
    """Find clips of different splits with the same audio, as `same_audio` does.

    Parameters
    ----------
    clips, contents : as in `same_audio`.

    Returns
    -------
    For each pair of splits with such clips, the pairs of clips. Each later clip occurs once, beside the first clip with
    the same content.
    """
    equal: dict[tuple[str, str], list[tuple[Clip, Clip]]] = {}
    for (first_split, first), *others in same_audio(clips, contents):
        for split, clip in others:
            if split != first_split:
                equal.setdefault((first_split, split), []).append((first, clip))
    return equal


def same_audio(
    clips: Mapping[str, Sequence[Clip]], contents: Mapping[str, str] | None = None
) -> list[list[tuple[str, Clip]]]:
    """Find clips with the same audio.

    Without `contents`, only files of equal size are read, once each: their digests are kept in the cache folder of the
    user. Clips whose audio is not in a file that `Clip.path` names are not compared.

    Parameters
    ----------
    clips : the clips by split.
    contents : a digest of the audio of each clip that occurs several times, by its id (`Dataset.audio_contents`);
        None to compare the content of files.

    Returns
    -------
    Groups of at least two clips with the same content, each clip with its split, in the order of the clips.
    """
    if contents is not None and not contents:  # no audio occurs several times
        return []
    if contents is None:
        members = [(split, clip) for split, of_split in clips.items() for clip in of_split]
        digests = _file_contents([clip for _, clip in members])
    else:
        members, digests = _known_contents(clips, contents)
    groups: dict[str, list[tuple[str, Clip]]] = {}
    for member, digest in zip(members, digests, strict=True):
        if digest is not None:
            groups.setdefault(digest, []).append(member)
    return [group for group in groups.values() if len(group) > 1]


def _known_contents(
    clips: Mapping[str, Sequence[Clip]], contents: Mapping[str, str]
) -> tuple[list[tuple[str, Clip]], list[str | None]]:
    """The clips that have a content, each with its split, and their contents."""
    members, digests = list[tuple[str, Clip]](), list[str | None]()
    for split, of_split in clips.items():
        for number, id in enumerate(ids_of(of_split)):
            if id in contents:
                members.append((split, of_split[number]))
                digests.append(contents[id])
    return members, digests


def _file_contents(clips: Sequence[Clip]) -> list[str | None]:
    """The content of the file of each clip as text; None where no other file has its size."""
    sizes = [_size(clip) for clip in clips]
    times, files, contents = Counter(sizes), FileDigests(), list[str | None]()
    for clip, size in zip(clips, sizes, strict=True):
        content = bound_audio(clip, files) if size and times[size] > 1 else None
        contents.append(None if content is None else json.dumps(content, default=str))
    files.save()
    return contents


def _size(clip: Clip) -> int:
    """The size of the file of a clip in bytes; 0 for a clip without a file."""
    if clip.path is not None:
        with suppress(OSError):
            return clip.path.stat().st_size
    return 0
