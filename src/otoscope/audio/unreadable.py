"""What a file that cannot be decoded is instead."""

from __future__ import annotations

_OTHER_FORMATS = (
    (b"ftyp", 4, "an MP4 file (AAC)"),
    (b"\x1aE\xdf\xa3", 0, "a Matroska or WebM file"),
    (b"0&\xb2u", 0, "a Windows Media file"),
    (b"wvpk", 0, "a WavPack file"),
    (b"MAC ", 0, "a Monkey's Audio file"),
    (b"TTA1", 0, "a True Audio file"),
    (b"MPCK", 0, "a Musepack file"),
    (b"DSD ", 0, "a DSD file"),
    (b"#!AMR", 0, "an AMR file"),
    (b"\x0bw", 0, "an AC-3 file"),
    (b"\xff\xf1", 0, "an AAC file"),
    (b"\xff\xf9", 0, "an AAC file"),
    (b"AVI ", 8, "a video (AVI)"),
    (b"\x7fFLAC", 28, "FLAC in an Ogg file"),
    (b"Speex   ", 28, "a Speex file"),
)

_SIGNATURES = (
    (b"version https://git-lfs", 0, "it is a Git LFS pointer; fetch the audio with `git lfs pull`"),
    (b"PK\x03\x04", 0, "it is a ZIP archive; extract the audio from it"),
    (b"\x1f\x8b", 0, "it is compressed with gzip; decompress it"),
    *(
        (signature, start, f"it is {what}, which libsndfile does not read; convert it to FLAC, for example with ffmpeg")
        for signature, start, what in _OTHER_FORMATS
    ),
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
            return f"it begins like {kind}, but its header is damaged or truncated, or its encoding is not supported"
    text = beginning[:40].decode("utf-8", errors="replace")
    if text.replace("\n", " ").replace("\t", " ").replace("\r", " ").isprintable() and "�" not in text:
        return f"it is not audio, but text that begins with {text!r}"
    return ""
