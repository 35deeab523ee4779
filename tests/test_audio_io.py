"""Decoding and resampling: files, round trips, known signals, and clear errors."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from otoscope.audio.decode import AudioError, decode
from otoscope.audio.resample import resample
from otoscope.audio.samples import all_finite, average_channels


def sine(hertz, rate, seconds=1.0):
    return np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate).astype(np.float32)


@pytest.mark.parametrize(("suffix", "tolerance"), [("wav", 1e-4), ("flac", 1e-4), ("ogg", 0.1)])
def test_a_file_is_decoded_to_mono_float32(tmp_path, suffix, tolerance):
    wave = 0.5 * sine(440, 22050)
    soundfile.write(tmp_path / f"a.{suffix}", wave, 22050)
    for source in (tmp_path / f"a.{suffix}", str(tmp_path / f"a.{suffix}")):
        actual, rate = decode(source)
        assert (actual.dtype, actual.shape, rate) == (np.float32, wave.shape, 22050)
        assert np.abs(actual - wave).max() < tolerance
        assert actual.flags["C_CONTIGUOUS"]


def test_channels_are_averaged(tmp_path):
    left, right = sine(440, 8000), sine(1000, 8000)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), 8000, subtype="FLOAT")
    np.testing.assert_allclose(decode(tmp_path / "a.wav")[0], (left + right) / 2, atol=1e-6)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
        decode(tmp_path / "gone.wav")
    with pytest.raises(FileNotFoundError, match="no audio file"):
        decode(tmp_path)


def test_a_file_that_is_not_audio_is_named(tmp_path):
    (tmp_path / "text.wav").write_text("this is text, although the name says wav")
    with pytest.raises(AudioError, match=r"cannot decode .*text\.wav: it is not audio, but text that begins with"):
        decode(tmp_path / "text.wav")
    with pytest.raises(AudioError, match=r"cannot decode.*text that begins with 'nor is this'"):
        decode(io.BytesIO(b"nor is this"))


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (b"", r"it is empty \(0 bytes\)"),
        (bytes(100), "begins with zeros"),
        (b"RIFF\0\0", "begins like WAV, but its header is damaged or truncated"),
        (b"\0\0\0\x20ftypM4A ", "MP4 file"),
        (b"wvpk\x7e\x10\0\0\x10\x04", "it is a WavPack file, which libsndfile does not read"),
        (b"OggS\0\2" + bytes(22) + b"\x7fFLAC\1\0", "it is FLAC in an Ogg file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    ],
)
def test_the_message_says_what_is_wrong_with_the_file(tmp_path, contents, reason):
    (tmp_path / "a.wav").write_bytes(contents)
    with pytest.raises(AudioError, match=reason):
        decode(tmp_path / "a.wav")


def test_an_empty_file_is_refused(tmp_path):
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.float32), 8000)
    with pytest.raises(AudioError, match=r"empty\.wav contains no samples"):
        decode(tmp_path / "empty.wav")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_refused(tmp_path, bad):
    soundfile.write(tmp_path / "bad.wav", np.array([0, bad, 0], np.float32), 8000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"bad\.wav contains NaN or infinite"):
        decode(tmp_path / "bad.wav")


@pytest.mark.parametrize(("rate", "target"), [(44100, 16000), (8000, 16000), (48000, 32000), (22050, 16000)])
def test_a_tone_keeps_its_frequency_and_level(rate, target):
    actual, expected = resample(sine(1000, rate), rate, target), sine(1000, target)
    assert actual.dtype == np.float32
    assert len(actual) == len(expected)
    middle = slice(target // 10, -target // 10)  # away from the filter's edges
    np.testing.assert_allclose(actual[middle], expected[middle], atol=2e-3)


def test_frequencies_above_the_new_nyquist_frequency_are_removed():
    actual = resample(sine(12000, 48000), 48000, 16000)
    assert np.abs(actual[1600:-1600]).max() < 1e-3


def test_a_constant_stays_constant():
    actual = resample(np.full(48000, 0.25, np.float32), 48000, 16000)
    np.testing.assert_allclose(actual[800:-800], 0.25, atol=1e-4)


def test_equal_rates_return_the_samples_unchanged():
    wave = sine(440, 16000)
    assert resample(wave, 16000, 16000) is wave


def test_wrong_arguments_of_resample_are_refused():
    with pytest.raises(ValueError, match="at least 1 Hz, got 0 -> 16000"):
        resample(np.zeros(4, np.float32), 0, 16000)
    with pytest.raises(ValueError, match=r"mono samples \[S\], got \[4, 2\]"):
        resample(np.zeros((4, 2), np.float32), 8000, 16000)
    with pytest.raises(ValueError, match="1 samples at 48000 Hz are less than one"):
        resample(np.zeros(1, np.float32), 48000, 8000)


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_the_average_of_channels_is_that_of_numpy(channels: int) -> None:
    frames = np.random.default_rng(channels).normal(size=(1000, channels)).astype(np.float32)
    frames[:3] = [[3e38] * channels, [1e-45] * channels, [-0.0] * channels]
    with np.errstate(over="ignore"):
        assert np.array_equal(average_channels(frames), frames.mean(1, dtype=np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_found_beside_values_whose_sum_overflows(bad: float) -> None:
    large = np.full((1000, 2), 3e38, np.float32)
    assert all_finite(large)
    large[500, 1] = bad
    assert not all_finite(large)
    both = np.float32([np.inf, -np.inf, 0])
    assert not all_finite(both)


@pytest.mark.parametrize("frames", [2**20 - 1, 2**20, 2**20 + 1])
def test_a_file_longer_than_a_block_is_read_to_its_end(tmp_path: Path, frames: int) -> None:
    wave = np.random.default_rng(0).integers(-(2**15), 2**15, frames).astype(np.int16)
    for kind in ("WAV", "FLAC"):
        path = tmp_path / f"long.{kind}"
        soundfile.write(path, wave, 48000, format=kind, subtype="PCM_16")
        assert np.array_equal(decode(path)[0], wave / np.float32(32768))
