"""The report on silent, clipped, offset, wrongly scaled and antiphase clips."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from otoscope import bank
from otoscope.audio.faults import FAULTS, find_faults
from otoscope.cli import main
from otoscope.datasets.audio_report import reporting_audio
from otoscope.datasets.sources import AudioFile, file_check
from otoscope.datasets.waveform import waveform
from otoscope.types import Clip
from toys import RATE, Ear, Tones

TONE = np.sin(np.arange(4000) / 7).astype(np.float32)
WAVES = {
    "silent": 5e-5 * TONE,
    "offset": 0.1 * TONE + np.float32(0.2),
    "clipped": np.clip(3 * TONE, -1, 1),
    "integer scale": 20000 * TONE,
}


@pytest.mark.parametrize("fault", WAVES)
def test_each_fault_is_found_alone(fault):
    assert find_faults(WAVES[fault]) == [fault]


@pytest.mark.parametrize("wave", [0.5 * TONE, 0.9 * TONE, 0.001 * TONE, 0.5 * TONE + np.float32(0.1)])
def test_usual_audio_has_no_faults(wave):
    assert find_faults(wave) == []


def test_antiphase_channels_are_reported(tmp_path):
    soundfile.write(tmp_path / "a.wav", 0.5 * np.stack([TONE, -0.95 * TONE], 1), RATE)
    with reporting_audio() as report:
        waveform(Clip.from_file(tmp_path / "a.wav", ["low"], "train"), RATE)
    assert {fault: [clip.id for clip in clips] for fault, clips in report.faulty.items()} == {"antiphase": ["a.wav"]}
    assert set(FAULTS) == {*WAVES, "antiphase", "changed"}


def changed_mp3(file):
    """Write an MP3 file with one changed bit in the middle, which can be decoded."""
    wave = np.tile(0.5 * TONE, 4)
    soundfile.write(file, wave, 8000, format="MP3")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_changed_mp3_files_are_reported(tmp_path):
    changed_mp3(tmp_path / "a.mp3")
    with reporting_audio() as report:
        waveform(Clip.from_file(tmp_path / "a.mp3", ["low"], "train"), RATE)
    assert list(report.faulty) == ["changed"]
    assert "1 clip ('a.mp3') changed (an MP3 file differs from the checksum of its encoder" in str(report)


class Faulty(Tones):
    def clips(self, split):
        faults = dict(zip((3, 5), (WAVES["silent"][:RATE], WAVES["clipped"][:RATE]), strict=True))
        return [
            replace(clip, load=lambda wave=faults[i]: wave) if split == "test" and i in faults else clip
            for i, clip in enumerate(super().clips(split))
        ]


@pytest.mark.parametrize("progress", [True, False])
def test_extraction_prints_the_report(tmp_path, progress, capsys):
    bank.extract(Ear(), Faulty(), tmp_path / "bank", progress=progress)
    text = capsys.readouterr().err
    assert (
        "audio of 96 clips: 1 clip ('test-3') silent (no sample exceeds 0.0001 of full scale); " in text
    ) == progress
    assert ("1 clip ('test-5') clipped" in text) == progress


def faulty_files(folder):
    """Two classes with a file for each fault, one that is truncated and one with NaN."""
    for label in ("a", "b"):
        for number in range(6):
            (folder / label).mkdir(exist_ok=True)
            soundfile.write(folder / label / f"good{number}.wav", 0.5 * np.roll(TONE, number), RATE)
    for fault, wave in WAVES.items():
        soundfile.write(folder / "a" / f"{fault}.wav", wave, RATE, "FLOAT")
    soundfile.write(folder / "a" / "antiphase.wav", 0.5 * np.stack([TONE, -0.95 * TONE], 1), RATE)
    changed_mp3(folder / "a" / "changed.mp3")
    soundfile.write(folder / "b" / "nan.wav", np.where(TONE > 0.99, np.nan, TONE), RATE, "FLOAT")
    truncated = (folder / "b" / "good0.wav").read_bytes()[:-3000]
    (folder / "b" / "truncated.wav").write_bytes(truncated)


def test_inspecting_a_data_set_prints_the_report(tmp_path, capsys):
    faulty_files(tmp_path)
    assert main(["data", "inspect", str(tmp_path), "--on-bad", "skip"]) == 0
    text = capsys.readouterr().out
    for fault, definition in FAULTS.items():
        name = f"a/{fault}.{'mp3' if fault == 'changed' else 'wav'}"
        assert f"- audio of 1 clip ({name!r}): {fault} ({definition})\n" in text
    assert "- 'b/nan.wav': " in text
    assert "nan.wav contains NaN or infinite samples" in text
    assert "- 'b/truncated.wav': " in text


def test_a_long_file_is_checked_in_blocks(tmp_path, monkeypatch):
    faulty_files(tmp_path)
    monkeypatch.setattr(file_check, "_LONG", 0.0)
    for fault, wave in WAVES.items():
        soundfile.write(tmp_path / "x.wav", wave, RATE, "FLOAT")
        assert file_check.check_audio(AudioFile(tmp_path / "x.wav"), decoded=True).faults == [fault]
    for name, fault in (("antiphase.wav", "antiphase"), ("changed.mp3", "changed")):
        assert file_check.check_audio(AudioFile(tmp_path / "a" / name), decoded=True).faults == [fault]
    damaged = file_check.check_audio(AudioFile(tmp_path / "b" / "truncated.wav"), decoded=True)
    assert "it ends after 5,000 of 8,000 bytes of samples" in damaged.reason
    loud_at_the_end = np.r_[np.zeros(1 << 20), TONE / 2].astype(np.float32)
    soundfile.write(tmp_path / "x.wav", loud_at_the_end, RATE, "FLOAT")
    assert file_check.check_audio(AudioFile(tmp_path / "x.wav"), decoded=True).faults == []


def _by_definition(wave):
    level = np.abs(wave)
    peak = float(level.max())
    mean, energy = float(wave.mean(dtype=np.float64)), float(np.square(wave, dtype=np.float64).mean())
    present = {
        "silent": peak <= 1e-4,
        "offset": peak > 1e-4 and mean * mean > energy / 4,
        "clipped": peak <= 1.0001 and float((level >= 0.9999).mean()) >= 0.001,
        "integer scale": peak > 4,
    }
    return [name for name in FAULTS if present.get(name)]


def test_faults_are_those_of_their_definition_near_every_limit():
    rng, seen = np.random.default_rng(0), set()
    for scale in (0, 1e-30, 1e-4, 1.0001e-4, 0.3, 0.9998, 0.99995, 1.0, 1.0002, 4.001, 1e20, 3e38):
        for offset in (0, 0.1, 0.5, 0.57734, 0.57735, 0.57736, 0.9, -1):
            wave = np.sign(rng.normal(size=2000)) * np.sqrt(3) * 0.57735 if offset else rng.uniform(-1, 1, 2000)
            wave = (wave - wave.mean() * (offset != 0) + offset).astype(np.float32)
            wave = (wave / np.abs(wave).max() * np.float32(scale)).astype(np.float32)
            faults = find_faults(wave)
            assert faults == _by_definition(wave), (scale, offset)
            seen.update(faults)
    assert seen == {"silent", "offset", "clipped", "integer scale"}
