"""What the headers of audio files declare, and whether the rest of the file agrees with it.

libsndfile returns the beginning of a truncated WAV, AIFF, Ogg or MP3 file as if it were the whole file. The functions
of this module read the structure of a file, without decoding it, and describe what is missing or damaged.

Sources: "Multimedia Programming Interface and Data Specifications 1.0" (RIFF), EBU Tech 3306 (RF64), "Audio Interchange
File Format 1.3" (AIFF), RFC 3533 (Ogg), RFC 9639 (FLAC).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from otoscope.audio._mp3 import Data, mp3_contents

UNKNOWN_SIZES = (0, 2**32 - 1)
"""Sizes of a chunk that a program writes which does not know them in advance, for example into a pipe."""

_PCM_CODES = (1, 3, 6, 7)
"""Codes of WAV encodings with a fixed number of bytes per sample: integer, float, A-law, mu-law."""


@dataclass(frozen=True)
class Contents:
    """What a file declares.

    Parameters
    ----------
    frames : int or None. Number of samples of each channel that the file should contain; None where this is unknown.
    tolerance : int. Largest difference from `frames` that is not damage.
    damage : str. What is missing or damaged; "" where the structure is complete.
    md5 : bytes. MD5 of the samples (FLAC); empty where it is unknown.
    changed : bool. Whether the bytes are others than those that the encoder wrote (MP3).
    """

    frames: int | None = None
    tolerance: int = 0
    damage: str = ""
    md5: bytes = b""
    changed: bool = False


def contents(data: Data, kind: str) -> Contents:
    """Read what an audio file declares.

    Parameters
    ----------
    data : bytes-like. The whole file.
    kind : str. The format in the terms of libsndfile, such as "WAV". For other formats than WAV, AIFF, FLAC, OGG and
        MP3, nothing is known.

    Returns
    -------
    Contents. What the file declares.

    Examples
    --------
    >>> import io, numpy, soundfile
    >>> file = io.BytesIO()
    >>> soundfile.write(file, numpy.zeros(1000), 8000, format="WAV")
    >>> contents(file.getvalue(), "WAV").frames
    1000
    >>> contents(file.getvalue()[:1044], "WAV").damage
    'it ends after 1,000 of 2,000 bytes of samples'
    """
    reader = _READERS.get(kind)
    try:
        return reader(data) if reader else Contents()
    except (struct.error, IndexError):
        return Contents(damage="it ends inside its header")


def _wav(data: Data) -> Contents:
    """RIFF and RF64: the chunk `data` against the size of the file."""
    code = block = long_size = 0
    for name, start, size in _chunks(data, 12, "<"):
        if name == b"ds64":
            (long_size,) = struct.unpack_from("<Q", data, start + 8)
        elif name == b"fmt ":
            code, block = struct.unpack_from("<H10xH", data, start)
            if code == 0xFFFE:  # extensible: the code is the beginning of the sub-format
                (code,) = struct.unpack_from("<H", data, start + 24)
        elif name == b"data":
            size = long_size if size == UNKNOWN_SIZES[1] and long_size else size
            known = size not in UNKNOWN_SIZES
            frames = size // block if known and block and code in _PCM_CODES else None
            return Contents(frames, damage=_data_damage(data, start, size) if known else "")
    return Contents()


def _aiff(data: Data) -> Contents:
    """AIFF and AIFF-C: the chunk `SSND` against the size of the file, and the number of frames in `COMM`."""
    frames, damage = None, ""
    for name, start, size in _chunks(data, 12, ">"):
        if name == b"COMM":
            (frames,) = struct.unpack_from(">I", data, start + 2)
        elif name == b"SSND" and start + size > len(data):
            damage = f"it ends after {len(data) - start:,} of {size:,} bytes of samples"
    return Contents(frames, damage=damage)


def _chunks(data: Data, start: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """The name, first byte and size of every chunk; the last one may end after the file."""
    while start + 8 <= len(data):
        name, size = bytes(data[start : start + 4]), struct.unpack_from(f"{order}I", data, start + 4)[0]
        yield name, start + 8, size
        start += 8 + size + size % 2


def _data_damage(data: Data, start: int, size: int) -> str:
    """What is wrong with the chunk of samples of a WAV file: the file ends in it, or it ends inside the samples."""
    end = start + size
    if end > len(data):
        return f"it ends after {len(data) - start:,} of {size:,} bytes of samples"
    names = (bytes(data[i : i + 4]) for i in (end, end + 1))
    if len(data) - end < 8 or any(all(32 <= byte < 127 for byte in name) for name in names):
        return ""
    rest = bytes(data[end : end + 4096])
    return "" if not any(rest) else f"{len(data) - end:,} bytes follow its samples and belong to no chunk"


def _flac(data: Data) -> Contents:
    """FLAC: number of samples and MD5 in the first block, STREAMINFO."""
    start = data.find(b"fLaC") + 8
    (packed,) = struct.unpack_from(">Q", data, start + 10)
    total, md5 = packed & (2**36 - 1), bytes(data[start + 18 : start + 34])
    return Contents(total or None, md5=md5 if any(md5) else b"")


def _ogg(data: Data) -> Contents:
    """Ogg: checksum and number of every page; the last page of a stream is marked."""
    start, last, numbers = 0, dict[int, bool](), dict[int, int]()
    while start < len(data):
        if data[start : start + 4] != b"OggS":
            break
        flags, serial, number, checksum, segments = struct.unpack_from("<5xB8xIIIB", data, start)
        body = start + 27 + segments
        end = body + sum(data[start + 27 : body])
        if end > len(data):
            return Contents(damage=f"it ends inside page {number} of its Ogg stream")
        if _ogg_checksum(bytes(data[start:end])) != checksum or number != numbers.get(serial, -1) + 1:
            return Contents(damage=f"page {number} of its Ogg stream is damaged, or a page before it is missing")
        numbers[serial], last[serial], start = number, bool(flags & 4), end
    if not all(last.values()):
        where = "at its end" if start >= len(data) else f"after page {max(numbers.values())}"
        return Contents(damage=f"its Ogg stream breaks off {where}")
    return Contents()


_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _ogg_checksum(page: bytes) -> int:
    """The checksum of a page: CRC-32 with its bits in the reverse order of zlib, without inversion."""
    cleared = page[:22] + bytes(4) + page[26:]
    mirrored = zlib.crc32(cleared.translate(_MIRRORED), 2**32 - 1) ^ (2**32 - 1)
    return int(f"{mirrored:032b}"[::-1], 2)


def _mp3(data: Data) -> Contents:
    """MP3: the number of frames of the Xing or VBRI header against the frames of the file, and its checksums."""
    stream = mp3_contents(data)
    return Contents(stream.samples, stream.tolerance, stream.damage, changed=stream.changed)


_READERS: dict[str, Callable[[Data], Contents]] = {
    "WAV": _wav,
    "WAVEX": _wav,
    "RF64": _wav,
    "AIFF": _aiff,
    "FLAC": _flac,
    "OGG": _ogg,
    "MP3": _mp3,
}
