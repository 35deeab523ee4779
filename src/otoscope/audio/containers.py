"""What the headers of audio files declare, and whether the rest of the file agrees with it.

libsndfile returns the beginning of many truncated files as if it were the whole file. The functions of this module read
the structure of a file, without decoding it, and describe what is missing or damaged.

Sources: "Multimedia Programming Interface and Data Specifications 1.0" (RIFF), EBU Tech 3306 (RF64), "Audio Interchange
File Format 1.3" (AIFF), "Sony Pictures Digital Wave64 1.2", "Core Audio Format Specification", the headers of
Sun (AU) and of NIST (SPHERE), RFC 3533 (Ogg), RFC 9639 (FLAC).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from otoscope.audio._mp3 import Data, mp3_contents

UNKNOWN_SIZES = (0, 2**32 - 1)
"""Sizes of a chunk that a program writes which does not know them in advance, for example into a pipe."""

_APPENDED = "another file of the same format follows its samples"

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
    kind : str. The format in the terms of libsndfile, such as "WAV". For other formats than WAV, W64, AIFF, AU, CAF,
        NIST, FLAC, OGG and MP3, nothing is known.

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
        elif name == b"SSND" and size == 0 == frames:  # written to a pipe: the samples last to the end of the file
            return Contents()
        elif name == b"SSND" and start + size > len(data):
            damage = _cut(data, start, size)
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
        return _cut(data, start, size)
    names = [bytes(data[i : i + 4]) for i in (end, end + 1)]
    if any(name in (b"RIFF", b"RF64") for name in names):
        return _APPENDED
    if len(data) - end < 8 or any(all(32 <= byte < 127 for byte in name) for name in names):
        return ""
    rest = bytes(data[end : end + 4096])
    return "" if not any(rest) else f"{len(data) - end:,} bytes follow its samples and belong to no chunk"


def _w64(data: Data) -> Contents:
    """Sony Wave64: as WAV, with names of 16 bytes, and sizes of 8 bytes that include the name and the size."""
    start = 40
    while start + 24 <= len(data):
        (size,) = struct.unpack_from("<Q", data, start + 16)
        if data[start : start + 4] == b"data":
            size, start = max(0, size - 24), start + 24
            rest = bytes(data[start + size + -size % 8 :][:4])
            return Contents(damage=_APPENDED if rest == b"riff" else _cut(data, start, size))
        start += max(24, size + -size % 8)
    return Contents()


def _au(data: Data) -> Contents:
    """Sun AU: the number of bytes of its samples in its header."""
    start, size = struct.unpack_from("<II" if data[:4] == b"dns." else ">II", data, 4)
    if size in UNKNOWN_SIZES:
        return Contents()
    rest = bytes(data[start + size :][:4])
    return Contents(damage=_APPENDED if rest == bytes(data[:4]) else _cut(data, start, size))


def _caf(data: Data) -> Contents:
    """Core Audio: the chunk `data`, whose size is -1 where it is unknown."""
    start = 8
    while start + 12 <= len(data):
        (size,) = struct.unpack_from(">q", data, start + 4)
        if data[start : start + 4] == b"data":
            rest = bytes(data[start + 12 + max(0, size) :][:4])
            return Contents(damage=_APPENDED if rest == b"caff" else _cut(data, start + 12, size))
        start += 12 + max(0, size)
    return Contents()


def _nist(data: Data) -> Contents:
    """NIST SPHERE: the number of samples in the text of its header."""
    lines = (line.split(maxsplit=2) for line in bytes(data[16:4096]).split(b"end_head")[0].splitlines())
    fields = {line[0]: line[2] for line in lines if len(line) == 3}
    names = (b"sample_count", b"channel_count", b"sample_n_bytes")
    if not all(fields.get(name, b"").isdigit() for name in names):
        return Contents()
    frames, channels, width = (int(fields[name]) for name in names)
    return Contents(frames, damage=_cut(data, int(data[8:16]), frames * channels * width))


def _cut(data: Data, start: int, size: int) -> str:
    """What is wrong with samples of a number of bytes if the file ends before them."""
    return f"it ends after {len(data) - start:,} of {size:,} bytes of samples" if start + size > len(data) else ""


def _flac(data: Data) -> Contents:
    """FLAC: number of samples and MD5 in the first block, STREAMINFO; whether there is another such block."""
    start = data.find(b"fLaC") + 8
    (packed,) = struct.unpack_from(">Q", data, start + 10)
    total, md5 = packed & (2**36 - 1), bytes(data[start + 18 : start + 34])
    appended = any(data.find(b"fLaC" + last + b"\0\0\x22", start) >= 0 for last in (b"\0", b"\x80"))
    return Contents(total or None, damage=_APPENDED if appended else "", md5=md5 if any(md5) else b"")


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
    "W64": _w64,
    "AU": _au,
    "CAF": _caf,
    "NIST": _nist,
    "FLAC": _flac,
    "OGG": _ogg,
    "MP3": _mp3,
}
