"""What a file that cannot be decoded is instead."""

from __future__ import annotations

_SIGNATURES = (
    (b"version https://git-lfs", 0, "it is a Git LFS pointer; fetch the audio with `git lfs pull`"),
    (
        b"ftyp",
        4,
        "it is an MP4 file (AAC), which libsndfile does not read; convert it to FLAC, for example with ffmpeg",
    ),
    (b"\x1aE\xdf\xa3", 0, "it is a Matroska or WebM file, which libsndfile does not read; convert it to FLAC"),
    (b"0&\xb2u", 0, "it is a Windows Media file, which libsndfile does not read; convert it to FLAC"),
    (b"PK\x03\x04", 0, "it is a ZIP archive; extract the audio from it"),
    (b"\x1f\x8b", 0, "it is compressed with gzip; decompress it"),
)

_AUDIO = ((b"RIFF", "WAV"), (b"RF64", "RF64"), (b"FORM", "AIFF"), (b"fLaC", "FLAC"), (b"OggS", "Ogg"), (b"ID3", "MP3"))


def describe(beginning: bytes) -> str:
    """Describe a file that libsndfile cannot open.

    Parameters
    ----------
    beginning : bytes. Its first bytes, at most a few thousand.

    Returns
    -------
    str. What the file is; "" for a beginning that says nothing.

    Examples
    --------
    >>> describe(b""), describe(b"<html><body>404 Not Found")
    ('it is empty (0 bytes)', "it is not audio, but text that begins with '<html><body>404 Not Found'")
    """
    if not beginning:
        return "it is empty (0 bytes)"
    if not any(beginning):
        return "it begins with zeros; its header is missing"
    for signature, start, words in _SIGNATURES:
        if beginning[start : start + len(signature)] == signature:
            return words
    for signature, kind in _AUDIO:
        if beginning.startswith(signature):
            return f"it begins like {kind}, but its header is damaged or truncated"
    text = beginning[:40].decode("utf-8", errors="replace")
    if text.replace("\n", " ").replace("\t", " ").replace("\r", " ").isprintable() and "�" not in text:
        return f"it is not audio, but text that begins with {text!r}"
    return ""
