"""What an extraction did: how, on which device, and where its time went. It is not part of the identity of a bank."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from otoscope.bank._mirror import publish
from otoscope.bank.errors import DamagedError
from otoscope.files import json_text, read_json, replacing
from otoscope.results.checked import check_types

FILE = "extraction.json"
PARTS = {"encoder": "encoder", "audio": "waiting for audio", "front end": "front end", "storing": "storing"}
"""The measured parts, and how they are called in messages."""


@dataclass(frozen=True)
class Extraction:
    """One run of `extract` that encoded clips.

    Parameters
    ----------
    clips : int. Number of clips that it encoded.
    audio_seconds : float. Their duration in seconds.
    seconds : dict. Wall-clock time in seconds: "audio" (decoding, or waiting for the workers that decode), "front end",
        "encoder", "storing" (waiting for the threads that cast and write), and "total". The total is a little more than
        the sum of the parts; on a GPU it may be less, because a thread prepares the next batch beside the encoder.
    device : str. Device of the encoder.
    threads : int. Threads with which torch computed on the CPU.
    loader_workers, batch_size, batch_seconds, compiled : arguments of `extract`.
    """

    clips: int
    audio_seconds: float
    seconds: Mapping[str, float]
    device: str
    threads: int
    loader_workers: int
    batch_size: int
    batch_seconds: float
    compiled: bool

    def share(self, part: str) -> float:
        """The share of a part in the total time, from 0 to 1."""
        total = self.seconds["total"]
        return self.seconds.get(part, 0.0) / total if total else 0.0

    def __str__(self) -> str:
        """
        >>> times = {"audio": 1, "front end": 2, "encoder": 16, "storing": 0.5, "total": 20}
        >>> print(Extraction(100, 1000, times, "cpu", 2, 0, 16, 320, False))
        encoded 100 clips, 1000 s of audio, in 20.0 s: encoder 80 %, waiting for audio 5 %, front end 10 %, storing 2 %
        """
        shares = [f"{words} {100 * self.share(part):.0f} %" for part, words in PARTS.items()]
        return (
            f"encoded {self.clips:,} clips, {self.audio_seconds:.0f} s of audio, in {self.seconds['total']:.1f} s: "
            f"{', '.join(shares)}"
        )


def read_extractions(path: Path) -> tuple[Extraction, ...]:
    """Read which extractions wrote the bank in the folder `path`, the earliest first.

    Extractions that were killed are missing, and so are those of versions of otoscope that recorded none.

    Raises
    ------
    DamagedError : when the file that lists them is damaged.
    """
    file = path / FILE
    if not file.exists():
        return ()
    try:
        return tuple(_read(entry) for entry in read_json(file)["extractions"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{file} is damaged ({error!r}); delete it, the bank does not need it") from error


def _read(entry: Mapping[str, Any]) -> Extraction:
    """Fields of later versions are ignored."""
    extraction = Extraction(**{field.name: entry[field.name] for field in dataclasses.fields(Extraction)})
    check_types(extraction)
    return extraction


def append_extraction(path: Path, extraction: Extraction) -> None:
    """Add an extraction to those of the bank in the folder `path`. A damaged list is replaced."""
    try:
        earlier = read_extractions(path)
    except DamagedError:
        earlier = ()
    with replacing(path / FILE) as temporary:
        contents = {"extractions": [asdict(each) for each in (*earlier, extraction)]}
        temporary.write_text(json_text(contents) + "\n", encoding="utf-8")
    publish(path, FILE)
