"""The frames of an MP3 file, the number of frames that its header declares, and the checksums of its encoder.

Sources: ISO/IEC 11172-3 and 13818-3 (frame headers); LAME and mpg123 (the headers "Xing", "Info" and "VBRI"); "Mp3 Info
Tag revision 1" (the delays and checksums of LAME, which libsndfile and, but for the checksum of the tag, FFmpeg write).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from mmap import mmap

from otoscope.audio._crc16 import crc16

Data = bytes | mmap
"""The contents of a file, in memory or mapped."""

_BITRATES = {  # kbit/s of the indices 1 to 14, by (MPEG 1?, layer)
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_BITRATES[False, 3] = _BITRATES[False, 2]
_RATES = (44100, 48000, 32000)

_SEARCHED = 1 << 16
"""Number of bytes in which the first frame is searched."""


@dataclass(frozen=True)
class Mp3Contents:
    """What an MP3 file contains.

    Parameters
    ----------
    samples : int or None. Samples of each channel; None where no frame was found.
    tolerance : int. Number of samples by which decoders differ: two frames.
    damage : str. What is missing or damaged; "" where all is well.
    changed : bool. Whether the bytes are others than those of the encoder, according to its checksums.
    """

    samples: int | None = None
    tolerance: int = 0
    damage: str = ""
    changed: bool = False


@dataclass(frozen=True)
class _Header:
    """A frame header: the fields that do not change within a stream, samples per frame, and bytes of this frame."""

    stream: tuple[int, int, int]
    samples: int
    length: int


def mp3_contents(data: Data) -> Mp3Contents:
    """Count the frames of an MP3 file.

    Parameters
    ----------
    data : bytes-like. The whole file.

    Returns
    -------
    Mp3Contents. The number of samples, and what is missing or damaged.
    """
    beginning, end = _end_of_id3(data), _end_of_frames(data)
    start = _first_frame(data, end, beginning)
    header = None if start is None else _header(data, start)
    if start is None or header is None:
        return Mp3Contents()
    if _header_damaged(data, start, header):
        return Mp3Contents(damage="its first frame is damaged")
    tag = _tag(data, start, header)
    position = start if tag is None else start + header.length
    count, damage = 0, ""
    while position < end:
        frame = _header(data, position)
        if frame is None or frame.stream != header.stream:
            damage = _lost_sync(data, position, end, count, header)
            break
        if position + frame.length > end:
            damage = f"it ends inside frame {count + 1:,}"
            break
        count, position = count + 1, position + frame.length
    if tag and tag.frames and tag.frames != count and not (abs(tag.frames - count) == 1 and tag.length == end - start):
        damage = f"it declares {tag.frames:,} frames and contains {count:,}"
    samples = count * header.samples - (tag.removed if tag else 0)
    lost = bytes(data[beginning:start])
    changed = _has_header(lost) or (tag is not None and _is_changed(data, start, header, tag))
    return Mp3Contents(samples, 2 * header.samples, damage, changed)


def counted_samples(data: Data) -> int | None:
    """Count the samples of an MP3 file whose length no header declares.

    Parameters
    ----------
    data : bytes-like. The whole file.

    Returns
    -------
    int or None. The number of samples; None where a Xing, Info or VBRI header declares it, and where there is no frame.
    """
    start = _first_frame(data, _end_of_frames(data), _end_of_id3(data))
    header = None if start is None else _header(data, start)
    if start is None or header is None or _tag(data, start, header):
        return None
    return mp3_contents(data).samples


def _lost_sync(data: Data, position: int, end: int, count: int, header: _Header) -> str:
    """Describe bytes that are no frame of the stream: damage if frames follow them, else something appended."""
    following = _first_frame(data, end, position + 1, header)
    if following is not None:
        return f"{following - position:,} bytes after frame {count:,} are damaged"
    other = _first_frame(data, end, position)
    if other is None or not _are_frames(data, other):
        return ""
    return f"after frame {count:,}, another MP3 file with another sampling rate was appended"


def _are_frames(data: Data, position: int, count: int = 8) -> bool:
    """Whether several frames of one stream follow each other, which is no chance, as it may be within a picture."""
    streams = set()
    for _ in range(count):
        frame = _header(data, position)
        streams.add(frame.stream if frame else None)
        position += frame.length if frame else 0
    return streams != {None} and len(streams) == 1


def _header(data: Data, start: int) -> _Header | None:
    """The frame header at a position; None where there is none, or one without a fixed length ("free format")."""
    return _parsed(bytes(data[start : start + 3])) if start + 4 <= len(data) else None


@lru_cache(maxsize=4096)  # the frames of a stream have few different headers
def _parsed(beginning: bytes) -> _Header | None:
    """The frame header with these three bytes; the fourth one does not count."""
    if beginning[0] != 0xFF or beginning[1] & 0xE0 != 0xE0:
        return None
    version, layer = beginning[1] >> 3 & 3, 4 - (beginning[1] >> 1 & 3)
    bitrate, rate, padding = beginning[2] >> 4, beginning[2] >> 2 & 3, beginning[2] >> 1 & 1
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    hertz = _RATES[rate] >> (0 if version == 3 else 1 if version == 2 else 2)
    samples = 384 if layer == 1 else 1152 if layer == 2 or version == 3 else 576
    bits = 1000 * _BITRATES[version == 3, layer][bitrate - 1]
    slot = 4 if layer == 1 else 1
    return _Header((version, layer, rate), samples, (samples // 8 // slot * bits // hertz + padding) * slot)


def _end_of_id3(data: Data) -> int:
    """The number of bytes of an ID3v2 tag at the beginning."""
    if bytes(data[:3]) != b"ID3" or len(data) < 10:
        return 0
    return 10 + (data[6] << 21 | data[7] << 14 | data[8] << 7 | data[9]) + (10 if data[5] & 0x10 else 0)


def _first_frame(data: Data, end: int, start: int, like: _Header | None = None) -> int | None:
    """The position of the first frame that another frame, or the end, follows; of the stream of `like` if given."""
    for position in range(start, min(end, start + _SEARCHED)):
        header = _header(data, position)
        if header is None or (like and header.stream != like.stream):
            continue
        following = _header(data, position + header.length)
        if position + header.length == end or (following and following.stream == header.stream):
            return position
    return None


def _end_of_frames(data: Data) -> int:
    """The number of bytes before an ID3v1 tag and an APE tag."""
    end = len(data)
    if bytes(data[end - 128 : end - 125]) == b"TAG":
        end -= 128
    if bytes(data[max(0, end - 32) : end - 24]) == b"APETAGEX":
        size, flags = struct.unpack_from("<I4xI", data, end - 20)
        end -= size + (32 if flags >> 31 else 0)
    return max(0, end)


@dataclass(frozen=True)
class _Tag:
    """A Xing, Info or VBRI header.

    Parameters
    ----------
    frames, length : number of frames and of bytes; 0 if unknown.
    removed : samples that a decoder removes at both ends.
    encoder : where in the frame the name of the encoder is, before its delays and checksums; 0 if nowhere.
    """

    frames: int = 0
    length: int = 0
    removed: int = 0
    encoder: int = 0


def _tag(data: Data, start: int, header: _Header) -> _Tag | None:
    """The header in the first frame; None if the first frame contains audio."""
    frame = bytes(data[start : start + header.length])
    for at in _TAG_STARTS:
        if frame[at : at + 4] in _TAGS and len(frame) >= at + 16:
            flags, *numbers = struct.unpack_from(">III", frame, at + 4)
            frames, length = (numbers.pop(0) if flags & bit else 0 for bit in (1, 2))
            lame = at + 8 + 4 * (flags & 1) + 2 * (flags & 2) + 25 * (flags & 4) + (flags & 8) // 2
            added = int.from_bytes(frame[lame + 21 : lame + 24], "big") if frame[lame : lame + 1].isalpha() else 0
            return _Tag(frames, length, (added >> 12) + (added & 0xFFF), lame)
    if frame[36:40] == b"VBRI" and len(frame) >= 54:
        length, frames = struct.unpack_from(">II", frame, 46)
        return _Tag(frames, length)
    return None


_TAGS = (b"Xing", b"Info")

_TAG_STARTS = (13, 21, 36)
"""First byte of a Xing or Info header in its frame: after the side information for one or two channels."""


def _is_changed(data: Data, start: int, header: _Header, tag: _Tag) -> bool:
    """Whether a checksum in the Xing header is another one; False where the encoder writes none."""
    frame = bytes(data[start : start + header.length])
    name, sums = frame[tag.encoder : tag.encoder + 6], frame[tag.encoder + 28 : tag.encoder + 36]
    if not tag.encoder or len(sums) < 8 or not any(sums):
        return False
    length, of_audio, of_tag = struct.unpack(">IHH", sums)
    if _equal_bytes(name, b"LAME3.") >= 5:
        if of_tag not in (crc16(frame, 0, tag.encoder + 34), _tag_checksum_of_ffmpeg(frame, tag)):
            return True
        if frame[tag.encoder + 19] & _CONTINUES:
            return False
    elif not name.startswith((b"Lavc", b"Lavf")):
        return b"\0" in name[:4] or _has_header(frame[tag.encoder - 4 :])
    other_audio: bool = length > header.length and crc16(data, start + header.length, start + length) != of_audio
    return other_audio


_CONTINUES = 0x80
"""The flag of a file that continues another one without a gap: LAME computes the checksum of both files together."""


def _tag_checksum_of_ffmpeg(frame: bytes, tag: _Tag) -> int:
    """The checksum of a header by FFmpeg, of 190 bytes. Where FFmpeg copies a stream of LAME, it keeps this name."""
    end = tag.encoder + 34
    return crc16((frame[:end] + bytes(2) + frame[end + 2 :]).ljust(190, b"\0"), 0, 190)


def _has_header(data: bytes) -> bool:
    """Whether bytes contain what only a Xing header contains."""
    return any(name in data for name in (*_TAGS, b"LAME3."))


def _equal_bytes(first: bytes, second: bytes) -> int:
    return sum(a == b for a, b in zip(first, second, strict=False))


def _header_damaged(data: Data, start: int, header: _Header) -> bool:
    """Whether a frame that cannot be read is the first one, or the name or the flags of a Xing header are damaged."""
    if start and _header(data, 0):
        return True
    frame = bytes(data[start : start + header.length])
    for at in _TAG_STARTS:
        equal = max(_equal_bytes(frame[at : at + 4], tag) for tag in _TAGS)
        if equal == 3 or (equal == 4 and (frame[at + 4 : at + 7] != bytes(3) or any(frame[6:at]))):
            return True
    return False
