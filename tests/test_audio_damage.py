"""Truncated and damaged audio files are refused, and a wrong header never decides how much memory is used."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from otoscope.audio import _crc16
from otoscope.audio.containers import contents
from otoscope.audio.decode import AudioError, decode, decoded_files
from otoscope.audio.part import decode_part, sound_info

FORMATS = [
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("WAVEX", "PCM_24"),
    ("RF64", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]
OTHER_FORMATS = [("W64", "PCM_16"), ("W64", "IMA_ADPCM"), ("AU", "PCM_24"), ("CAF", "PCM_16"), ("NIST", "PCM_16")]
NAMES = [f"{kind}-{subtype}" for kind, subtype in FORMATS]
SAMPLES = 24000


def encoded(kind: str, subtype: str) -> bytes:
    """A stereo file of 1.5 s of noise and silence at 16 kHz."""
    wave = np.random.default_rng(0).normal(0, 0.1, (SAMPLES, 2))
    wave[5000:9000] = 0
    file = io.BytesIO()
    soundfile.write(file, wave, 16000, format=kind, subtype=subtype)
    return file.getvalue()


def decoded_length(data: bytes, folder: Path) -> int:
    """Number of samples of a file with these contents; 0 for a file that is refused."""
    file = folder / "changed"
    file.write_bytes(data)
    try:
        return len(decode(file)[0])
    except AudioError:
        return 0


@pytest.mark.parametrize(("kind", "subtype"), FORMATS, ids=NAMES)
def test_a_whole_file_is_decoded_as_libsndfile_does(kind, subtype):
    data = encoded(kind, subtype)
    wave, rate = decode(io.BytesIO(data))
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    assert (len(wave), rate) == (SAMPLES, 16000)
    np.testing.assert_allclose(wave, expected.mean(1), atol=1e-6)


@pytest.mark.parametrize(("kind", "subtype"), FORMATS + OTHER_FORMATS)
def test_a_truncated_file_is_refused(kind, subtype):
    data = encoded(kind, subtype)
    for share in (0.02, 0.25, 0.5, 0.9, 0.999):
        with pytest.raises(AudioError, match=r"truncated|cannot decode"):
            decode(io.BytesIO(data[: int(share * len(data))]))


@pytest.mark.parametrize(("kind", "subtype"), OTHER_FORMATS)
def test_a_whole_file_of_another_format_is_no_damage(kind, subtype):
    data = encoded(kind, subtype)
    assert len(decode(io.BytesIO(data))[0]) >= SAMPLES


@pytest.mark.parametrize(("kind", "subtype"), FORMATS + OTHER_FORMATS[:-1])
def test_two_files_in_one_are_refused(kind, subtype):
    data = encoded(kind, subtype)
    with pytest.raises(AudioError, match=r"damaged|another file|declares"):
        decode(io.BytesIO(2 * data))


def test_an_mp3_file_after_one_with_another_rate_is_refused():
    data, file = encoded("MP3", "MPEG_LAYER_III"), io.BytesIO()
    soundfile.write(file, np.zeros(40000), 44100, format="MP3")
    with pytest.raises(AudioError, match="after frame 44, another MP3 file with another sampling rate was appended"):
        decode(io.BytesIO(data + file.getvalue()))
    assert decode(io.BytesIO(data + np.random.default_rng(0).bytes(100_000)))[0].shape == (SAMPLES,)


@pytest.mark.parametrize(("kind", "subtype"), FORMATS, ids=NAMES)
def test_a_file_with_changed_bytes_is_refused_or_keeps_its_length(kind, subtype, tmp_path):
    data, rng = encoded(kind, subtype), np.random.default_rng(1)
    sound_delay = set(range(128, 180)) if kind == "MP3" else set()  # these bytes declare silence at the ends
    for _ in range(60):
        changed = bytearray(data)
        position = int(rng.integers(len(data))) if rng.random() < 0.5 else int(rng.integers(100))
        if position in sound_delay:
            continue
        if rng.random() < 0.3:
            del changed[position : position + int(rng.integers(1, 50))]
        else:
            changed[position] ^= 1 << int(rng.integers(8))
        assert decoded_length(bytes(changed), tmp_path) in (0, SAMPLES), position


@pytest.mark.parametrize(("kind", "subtype"), FORMATS[5:9], ids=NAMES[5:9])
def test_checksums_detect_every_changed_bit_of_the_samples(kind, subtype):
    data, rng = encoded(kind, subtype), np.random.default_rng(2)
    for position in rng.integers(len(data) // 4, len(data), 20):
        changed = bytearray(data)
        changed[position] ^= 1
        with pytest.raises(AudioError, match="damaged"):
            decode(io.BytesIO(bytes(changed)))


def test_the_number_of_frames_in_the_header_does_not_decide_how_much_memory_is_used():
    data = bytearray(encoded("MP3", "MPEG_LAYER_III"))
    frames = data.index(b"Xing") + 8
    data[frames : frames + 4] = struct.pack(">I", 2**31 - 1)  # 4 TiB of samples
    with pytest.raises(AudioError, match=r"declares 2,147,483,647 frames and contains 44"):
        decode(io.BytesIO(bytes(data)))


def test_a_file_above_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr("otoscope.audio.decode.MAX_SAMPLES", SAMPLES - 1)
    with pytest.raises(AudioError, match=r"more than 23,999 samples.*cut it into shorter files"):
        decode(io.BytesIO(encoded("WAV", "PCM_16")))


@pytest.mark.parametrize("size", [0, 2**32 - 1])
def test_a_wav_file_of_unknown_length_is_read_to_its_end(size, tmp_path):
    data = bytearray(encoded("WAV", "PCM_16"))
    start = data.index(b"data") + 4
    data[start : start + 4] = struct.pack("<I", size)
    assert contents(bytes(data), "WAV").damage == ""
    if size:
        assert decoded_length(bytes(data), tmp_path) == SAMPLES


def test_chunks_and_zeros_after_the_samples_are_no_damage(tmp_path):
    data = encoded("WAV", "PCM_16")
    for rest in (b"LIST" + struct.pack("<I", 4) + b"INFO", bytes(512), b"\0"):
        assert decoded_length(data + rest, tmp_path) == SAMPLES
    with pytest.raises(AudioError, match="100 bytes follow its samples and belong to no chunk"):
        decode(io.BytesIO(data + b"\x01\xff" * 50))


def test_tags_around_an_mp3_stream_are_no_damage(tmp_path):
    data = encoded("MP3", "MPEG_LAYER_III")
    id3v2 = b"ID3\x04\0\0" + bytes([0, 0, 1, 0]) + bytes(128)
    assert decoded_length(id3v2 + data + b"TAG" + bytes(125), tmp_path) == SAMPLES


def test_an_mp3_file_without_a_xing_header_is_counted_by_its_frames():
    data = encoded("MP3", "MPEG_LAYER_III")
    first = data.index(b"\xff\xf3", 2)
    assert contents(data[first:], "MP3").damage == ""
    assert contents(data[first:-20], "MP3").damage == "it ends inside frame 44"


def is_changed(data: bytes) -> bool:
    """Whether an MP3 file is refused or differs from the checksums of its encoder."""
    stream = contents(data, "MP3")
    return stream.changed or bool(stream.damage) or stream.frames is None


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (22050, 2), (44100, 1), (44100, 2)])
def test_checksums_of_the_encoder_detect_every_changed_bit_of_an_mp3_file(rate, channels):
    file, rng = io.BytesIO(), np.random.default_rng(3)
    soundfile.write(file, rng.normal(0, 0.1, (rate, channels)), rate, format="MP3")
    data = file.getvalue()
    assert not is_changed(data)
    assert not is_changed(data + b"TAG" + bytes(125))
    end_of_tag = data.index(b"LAME3.100") + 36
    zeros = len(data[end_of_tag:]) - len(data[end_of_tag:].lstrip(b"\0"))
    for position in [*range(end_of_tag), *rng.integers(end_of_tag + zeros, len(data), 60)]:
        changed = bytearray(data)
        changed[position] ^= 1 << int(rng.integers(8))
        assert is_changed(bytes(changed)), position


@pytest.mark.parametrize(
    ("name", "checks_tag", "checks_audio"),
    [(b"LAME3.100", True, True), (b"LAMF3.100", True, True), (b"Lavc59.37", False, True), (b"GOGO3.100", False, False)],
)
def test_checksums_of_an_mp3_file_are_compared_where_the_encoder_writes_them(name, checks_tag, checks_audio):
    data = bytearray(encoded("MP3", "MPEG_LAYER_III"))
    encoder = data.index(b"LAME3.100")
    data[encoder : encoder + 9] = name
    data[encoder + 34 : encoder + 36] = _bit_by_bit(data[: encoder + 34]).to_bytes(2, "big")
    assert not contents(bytes(data), "MP3").changed
    for position, checked in ((encoder + 10, checks_tag), (len(data) - 40, checks_audio)):
        other = bytearray(data)
        other[position] ^= 1
        assert contents(bytes(other), "MP3").changed == checked


def test_an_mp3_file_that_ffmpeg_copied_or_that_continues_another_one_is_not_changed():
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(5).normal(0, 0.1, 16000), 16000, format="MP3")
    data = bytearray(file.getvalue())
    encoder = data.index(b"LAME3.100")
    frame = bytes(data[: encoder + 34]) + bytes(2) + bytes(data[encoder + 36 : 190])
    data[encoder + 34 : encoder + 36] = _bit_by_bit(frame).to_bytes(2, "big")  # as `ffmpeg -c copy` writes it
    assert not contents(bytes(data), "MP3").changed
    data[encoder + 10] ^= 1
    assert contents(bytes(data), "MP3").changed

    data = bytearray(file.getvalue())
    data[-40] ^= 1
    assert contents(bytes(data), "MP3").changed
    data[encoder + 19] |= 0x80  # as `lame --nogap` writes it: the checksum began in the file before this one
    data[encoder + 34 : encoder + 36] = _bit_by_bit(data[: encoder + 34]).to_bytes(2, "big")
    assert not contents(bytes(data), "MP3").changed


def test_the_checksum_is_that_of_its_definition(monkeypatch):
    rng = np.random.default_rng(4)
    for piece in (_crc16._PIECE, 256, 512):
        monkeypatch.setattr(_crc16, "_PIECE", piece)
        for length in (0, 1, 2, 255, 256, 257, 511, 512, 513, 3000):
            data = rng.bytes(length)
            assert _crc16.crc16(data) == _bit_by_bit(data)
    assert _crc16.crc16(data, 700, 2001) == _bit_by_bit(data[700:2001])
    assert _crc16.crc16(data, 700, 5000) == _bit_by_bit(data[700:])


def _bit_by_bit(data: bytes) -> int:
    """CRC-16/ARC, slowly."""
    checksum = 0
    for byte in data:
        checksum ^= byte
        for _ in range(8):
            checksum = (checksum >> 1) ^ (0xA001 if checksum & 1 else 0)
    return checksum


def test_antiphase_channels_are_reported(tmp_path):
    wave = np.sin(np.arange(8000) / 10)
    for name, right, expected in (("a", -wave, True), ("b", wave, False), ("c", 0 * wave, False)):
        soundfile.write(tmp_path / f"{name}.wav", np.stack([wave, right], 1), 8000)
        with decoded_files() as files:
            decode(tmp_path / f"{name}.wav")
        assert [(file.rate, file.samples, file.cancelled) for file in files] == [(8000, 8000, expected)]


def test_aiff_from_a_pipe_is_read(tmp_path):
    """A program that writes to a pipe leaves the sizes and the number of samples 0."""
    file = tmp_path / "a.aiff"
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 3000).astype(np.float32)
    soundfile.write(file, wave, 8000, subtype="PCM_16")
    expected, _ = decode(file)
    data = bytearray(file.read_bytes())
    comm, ssnd = data.index(b"COMM"), data.index(b"SSND")
    data = data[:12] + data[comm : comm + 26] + data[ssnd:]  # only these chunks, as ffmpeg writes them
    data[4:8] = data[22:26] = data[42:46] = bytes(4)
    file.write_bytes(data)
    np.testing.assert_array_equal(decode(file)[0], expected)
    assert sound_info(file).samples == 3000
    np.testing.assert_array_equal(decode_part(file, 0.1, 0.2)[0], expected[800:1600])
    data[42:46] = (8).to_bytes(4, "big")  # an empty file declares the eight bytes before its samples
    file.write_bytes(data)
    with pytest.raises(AudioError):
        decode(file)


@pytest.mark.parametrize("read", [decode, sound_info, lambda file: decode_part(file, 0.0, 0.1)])
def test_flac_from_a_pipe_is_refused_with_what_to_do(tmp_path, read):
    file = tmp_path / "a.flac"
    soundfile.write(file, np.random.default_rng(0).uniform(-0.5, 0.5, 3000), 8000, subtype="PCM_16")
    data = bytearray(file.read_bytes())
    data[21] &= 0xF0  # the number of samples and the checksum in STREAMINFO
    data[22:42] = bytes(20)
    file.write_bytes(data)
    with pytest.raises(AudioError, match=r"written to a pipe; write it to a file.*ffmpeg -i IN.flac OUT.flac"):
        read(file)
