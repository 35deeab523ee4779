"""The front ends against transformers, against their plain form, against formulas, and against physics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from otoscope.audio import reference
from otoscope.audio.fbank import fbank, frame_count
from otoscope.audio.mel import decibels, mel_filters, mel_frame_count, mel_spectrogram, min_max

RATE = 16000
oracle_ignores_empty_filters = pytest.mark.filterwarnings("ignore:At least one mel filter:UserWarning")
KALDI: dict[str, dict[str, Any]] = {
    "EAT, SSLAM, Audio-MAE, AST": {},
    "BEATs": {"window": "povey"},
    "w2v-BERT": {"window": "povey", "bins": 80},
    "Bird-MAE": {"rate": 32000},
    "64 bins from 60 to 7800 Hz": {"bins": 64, "low": 60.0, "high": 7800.0},
    "20 ms every 5 ms, Hamming": {"frame_ms": 20.0, "hop_ms": 5.0, "window": "hamming"},
    "44.1 kHz, rectangular": {"rate": 44100, "window": "rectangular", "bins": 40},
    "without pre-emphasis and removal of the mean": {"preemphasis": 0.0, "remove_dc": False},
    "pre-emphasis 0.9, Blackman": {"preemphasis": 0.9, "window": "blackman"},
}


def noise(samples: int, seed: int = 0, clips: int = 1) -> Tensor:
    return torch.from_numpy(0.1 * np.random.default_rng(seed).standard_normal((clips, samples)))


def kaldi_by_transformers(
    wave: Tensor,
    *,
    bins: int = 128,
    window: str = "hanning",
    rate: int = RATE,
    low: float = 20.0,
    high: float | None = None,
    frame_ms: float = 25.0,
    hop_ms: float = 10.0,
    preemphasis: float = 0.97,
    remove_dc: bool = True,
) -> np.ndarray:
    audio_utils = pytest.importorskip("transformers.audio_utils", reason="the oracle is transformers' numpy fbank")
    length, hop = int(rate * frame_ms / 1000), int(rate * hop_ms / 1000)
    fft = 2 ** math.ceil(math.log2(length))
    filters = audio_utils.mel_filter_bank(
        num_frequency_bins=fft // 2 + 1,
        num_mel_filters=bins,
        min_frequency=low,
        max_frequency=high or rate / 2,
        sampling_rate=rate,
        norm=None,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    windows = {"hanning": np.hanning, "hamming": np.hamming, "rectangular": np.ones, "blackman": np.blackman}
    shape = np.hanning(length) ** 0.85 if window == "povey" else windows[window](length)
    log_mel: np.ndarray = audio_utils.spectrogram(
        wave.numpy(),
        shape,
        frame_length=length,
        hop_length=hop,
        fft_length=fft,
        power=2.0,
        center=False,
        preemphasis=preemphasis or None,
        mel_filters=filters,
        log_mel="log",
        mel_floor=1.192092955078125e-07,
        remove_dc_offset=remove_dc,
        dtype=np.float64,
    ).T
    return log_mel


# Kaldi


@oracle_ignores_empty_filters
@pytest.mark.parametrize("kind", KALDI)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.float64, 1e-6)])
def test_fbank_equals_the_one_of_transformers(kind: str, dtype: torch.dtype, tolerance: float) -> None:
    waves = noise(RATE, clips=2)
    actual = fbank(waves.to(dtype), **KALDI[kind])
    assert actual.dtype == dtype
    for wave, clip in zip(waves, actual, strict=True):
        expected = kaldi_by_transformers(wave, **KALDI[kind])
        assert clip.shape == expected.shape
        assert np.abs(clip.numpy() - expected).max() < tolerance


@pytest.mark.filterwarnings("ignore:At least one mel filter:UserWarning")
def test_fbank_equals_the_feature_extractor_of_ast() -> None:
    transformers = pytest.importorskip("transformers", reason="the oracle is the feature extractor of AST")
    extractor = transformers.ASTFeatureExtractor()
    wave = noise(2 * RATE)[0].float()
    features = extractor(wave.numpy(), sampling_rate=RATE, return_tensors="pt").input_values[0]
    expected = (fbank(wave[None])[0] - extractor.mean) / (extractor.std * 2)
    assert float((features[: len(expected)] - expected).abs().max()) < 1e-3


@settings(max_examples=40, deadline=None)
@given(
    clips=st.integers(1, 5),
    samples=st.integers(1, 30_000),
    rate=st.sampled_from([8000, 16000, 22050]),
    hop_ms=st.sampled_from([5.0, 10.0, 20.0]),
    bins=st.integers(1, 130),
    window=st.sampled_from(["hanning", "povey", "hamming", "blackman", "rectangular"]),
    preemphasis=st.sampled_from([0.0, 0.5, 0.97]),
    remove_dc=st.booleans(),
)
def test_fbank_in_parts_equals_its_plain_form(clips: int, samples: int, **options: Any) -> None:
    waves = noise(samples, clips=clips)
    torch.testing.assert_close(fbank(waves, **options), reference.fbank(waves, **options), rtol=0, atol=1e-6)


def test_many_short_clips_and_one_long_clip_are_computed_in_parts() -> None:
    """More frames than one part of `map_frames` has, in both directions."""
    for waves in (noise(1000, clips=700), noise(20 * RATE, clips=2)):
        torch.testing.assert_close(fbank(waves), reference.fbank(waves), rtol=0, atol=1e-6)


def test_the_audio_is_not_changed() -> None:
    waves = noise(RATE)
    before = waves.clone()
    fbank(waves, remove_dc=False)
    mel_spectrogram(waves, rate=RATE, n_fft=512, hop=160, bins=64)
    assert torch.equal(waves, before)


def test_a_gradient_reaches_the_audio() -> None:
    def front_end(waves: Tensor) -> Tensor:
        return fbank(waves, bins=4, window="hamming")

    assert torch.autograd.gradcheck(front_end, noise(450).requires_grad_(), atol=1e-4)


def test_a_tone_has_its_maximum_in_its_bin_and_a_gain_of_ten_adds_twenty_decibels() -> None:
    tone = torch.sin(2 * np.pi * 1000 * torch.arange(RATE) / RATE)[None]
    mel = fbank(tone)
    filters = mel_filters(128, rate=RATE, n_fft=512, low=20.0, scale="kaldi")
    centre = filters.argmax(1)[32]  # FFT line 32 of 512 at 16 kHz is 1 kHz
    assert abs(int(mel.mean(1).argmax()) - int(centre)) <= 1
    louder = fbank(10 * tone)
    top = mel.mean(1).argmax()
    assert torch.allclose(louder[..., top] - mel[..., top], torch.tensor(2 * np.log(10.0)).float(), atol=1e-3)


def test_a_constant_offset_does_not_change_the_features() -> None:
    wave = noise(RATE).float()
    assert torch.allclose(fbank(wave + 0.25), fbank(wave), atol=2e-2)
    assert not torch.allclose(fbank(wave + 0.25, remove_dc=False), fbank(wave, remove_dc=False), atol=2e-2)


@pytest.mark.parametrize("options", [{}, {"rate": 44100}, {"frame_ms": 30.0, "hop_ms": 7.5}])
def test_frame_count_is_the_number_of_frames(options: dict[str, Any]) -> None:
    lengths = (1, 399, 400, 559, 560, RATE, 10 * RATE)
    counted = frame_count(torch.tensor(lengths), **options)
    for samples, count in zip(lengths, counted.tolist(), strict=True):
        assert fbank(torch.zeros(1, samples), **options).shape[1] == frame_count(samples, **options) == count


# Mel spectrograms

MEL: dict[str, dict[str, Any]] = {
    "BAT": {"n_fft": 1024, "bins": 128},
    "Dasheng": {"n_fft": 512, "bins": 64, "high": 8000.0},
    "M2D": {"n_fft": 400, "bins": 80, "low": 50.0, "high": 8000.0, "mel_scale": "slaney", "norm": "slaney"},
    "MATPAC": {"n_fft": 400, "bins": 80, "low": 50.0, "center": False},
    "librosa": {"n_fft": 2048, "bins": 128, "mel_scale": "slaney", "norm": "slaney", "pad_mode": "constant"},
    "amplitude, Hamming": {"n_fft": 512, "bins": 40, "power": 1.0, "window": "hamming"},
    "a window shorter than the transform": {"n_fft": 1024, "bins": 64, "win_length": 800, "periodic": False},
    "triangles in mel": {"n_fft": 512, "bins": 64, "mel_scale": "kaldi", "low": 20.0},
}


def mel_by_transformers(
    wave: Tensor,
    *,
    n_fft: int,
    bins: int,
    low: float = 0.0,
    high: float | None = None,
    mel_scale: str = "htk",
    norm: str | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    power: float = 2.0,
    window: str = "hann",
    win_length: int | None = None,
    periodic: bool = True,
) -> np.ndarray:
    audio_utils = pytest.importorskip("transformers.audio_utils", reason="the oracle is transformers' spectrogram")
    filters = audio_utils.mel_filter_bank(
        n_fft // 2 + 1,
        bins,
        low,
        high or RATE / 2,
        RATE,
        norm,
        mel_scale,
        triangularize_in_mel_space=mel_scale == "kaldi",
    )
    spectrogram: np.ndarray = audio_utils.spectrogram(
        wave.numpy(),
        audio_utils.window_function(win_length or n_fft, window, periodic=periodic, frame_length=n_fft),
        frame_length=n_fft,
        hop_length=160,
        fft_length=n_fft,
        power=power,
        center=center,
        pad_mode={"replicate": "edge"}.get(pad_mode, pad_mode),
        mel_filters=filters,
        mel_floor=0.0,
        dtype=np.float64,
    ).T
    return spectrogram  # transformers stores the spectrum as complex64


@oracle_ignores_empty_filters
@pytest.mark.parametrize("kind", MEL)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-6)])
def test_mel_spectrogram_equals_the_one_of_transformers(kind: str, dtype: torch.dtype, tolerance: float) -> None:
    waves = noise(RATE, clips=2)
    actual = mel_spectrogram(waves.to(dtype), rate=RATE, hop=160, **MEL[kind])
    assert actual.dtype == dtype
    for wave, clip in zip(waves, actual, strict=True):
        expected = mel_by_transformers(wave, **MEL[kind])
        assert clip.shape == expected.shape
        assert np.abs(clip.numpy() - expected).max() < tolerance * expected.max()


@settings(max_examples=30, deadline=None)
@given(
    clips=st.integers(1, 4),
    samples=st.integers(513, 20_000),
    n_fft=st.sampled_from([256, 400, 1024]),
    hop=st.sampled_from([64, 160, 441]),
    bins=st.integers(1, 130),
    center=st.booleans(),
    power=st.sampled_from([1.0, 2.0]),
)
def test_mel_spectrogram_equals_its_plain_form(clips: int, samples: int, n_fft: int, **options: Any) -> None:
    waves = noise(max(samples, n_fft), clips=clips)
    expected = reference.mel_spectrogram(waves, rate=RATE, n_fft=n_fft, **options)
    actual = mel_spectrogram(waves, rate=RATE, n_fft=n_fft, **options)
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("center", [True, False])
def test_mel_frame_count_is_the_number_of_frames(center: bool) -> None:
    lengths = (512, 513, 671, 672, RATE)
    counted = mel_frame_count(torch.tensor(lengths), hop=160, n_fft=512, center=center)
    for samples, count in zip(lengths, counted.tolist(), strict=True):
        mel = mel_spectrogram(torch.zeros(1, samples), rate=RATE, n_fft=512, hop=160, bins=8, center=center)
        assert mel.shape[1] == mel_frame_count(samples, hop=160, n_fft=512, center=center) == count


def test_filters_of_area_one_have_area_one() -> None:
    filters = mel_filters(20, rate=RATE, n_fft=8192, low=500.0, scale="slaney", norm="slaney")
    torch.testing.assert_close(filters.sum(0) * RATE / 8192, torch.ones(20, dtype=torch.float64), rtol=1e-3, atol=0)
    assert float(mel_filters(20, rate=RATE, n_fft=8192, low=500.0).max()) == pytest.approx(1, abs=0.02)


# Decibels and scaling


@pytest.mark.filterwarnings("ignore")
def test_decibels_equal_those_of_transformers() -> None:
    audio_utils = pytest.importorskip("transformers.audio_utils", reason="the oracle is transformers' power_to_db")
    power = noise(1000).square() * torch.logspace(-12, 3, 1000)
    expected = audio_utils.power_to_db(power[0].numpy(), reference=2.0, min_value=1e-10, db_range=80.0)
    np.testing.assert_allclose(decibels(power, ref=2.0, top_db=80.0)[0].numpy(), expected, rtol=1e-12)


def test_the_range_of_decibels_is_limited_for_each_clip() -> None:
    power = torch.tensor([[[1.0, 1e-9]], [[1e-4, 1e-9]]])
    expected = torch.tensor([[[0.0, -40.0]], [[-40.0, -80.0]]])
    torch.testing.assert_close(decibels(power, top_db=40), expected)
    torch.testing.assert_close(decibels(power[1:], top_db=40), expected[1:])


def test_min_max_scales_each_clip_by_its_valid_frames() -> None:
    x = torch.tensor([[[0.0, 5.0], [10.0, 5.0], [20.0, -10.0]], [[1.0, 2.0], [3.0, 4.0], [5.0, 5.0]]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    scaled = min_max(x, mask=mask)
    torch.testing.assert_close(scaled[0, :2], torch.tensor([[0.0, 0.5], [1.0, 0.5]]))
    torch.testing.assert_close(scaled[1], (x[1] - 1) / 4)
    assert float(min_max(x).flatten(1).amax()) == 1
    limited = decibels(10 ** (x / 10), top_db=2, mask=mask)
    torch.testing.assert_close(limited[0, 0], torch.tensor([8.0, 8.0]))


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": "gauss"}, "window 'gauss'; allowed: 'hanning'"),
        ({"high": 9000.0}, "20 to 9000 Hz at a rate of 16000 Hz"),
        ({"low": -1.0}, "0 <= low < high"),
        ({"bins": 0}, "at least one filter"),
        ({"hop_ms": 0.01}, "0.01 ms at 16000 Hz are less than one sample"),
    ],
)
def test_options_of_fbank_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fbank(torch.zeros(1, RATE), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mel_scale": "bark"}, "mel scale 'bark'"),
        ({"norm": "area"}, "norm 'area'"),
        ({"window": "povey"}, "window 'povey'; allowed: 'hann', 'hamming'"),
        ({"win_length": 513}, "win_length in 1..n_fft; found 160, 513"),
        ({"hop": 0}, "hop must be above 0"),
    ],
)
def test_options_of_mel_spectrogram_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mel_spectrogram(torch.zeros(1, RATE), **{"rate": RATE, "n_fft": 512, "hop": 160, "bins": 64} | options)


def test_waves_have_two_axes_and_enough_samples() -> None:
    with pytest.raises(ValueError, match=r"fbank needs waves \[B, S\]"):
        fbank(torch.zeros(RATE))
    with pytest.raises(ValueError, match="at least 257 samples, found"):
        mel_spectrogram(torch.zeros(1, 256), rate=RATE, n_fft=512, hop=160, bins=64)
