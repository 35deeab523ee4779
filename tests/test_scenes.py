"""The data set `scenes`: its recordings, licences and splits, and the mixing of its clips."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import pickle
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from otoscope.datasets import _scenes_effects as effects
from otoscope.datasets import _scenes_mix as mix
from otoscope.datasets import base
from otoscope.datasets.scenes import Scenes

FREE = {"CC0", "public-domain", "MIT", "CC-BY-3.0", "CC-BY-SA-3.0", "CC-BY-SA-3.0-us"}
ROWS = json.loads((mix.DATA / "recordings.json").read_text(encoding="utf-8"))


def file_of(row: dict[str, str]) -> Path:
    return mix.DATA / row["class"] / f"{row['id']}.ogg"


@pytest.fixture(scope="module")
def sources() -> ModuleType:
    path = Path(__file__).parent.parent / "assets" / "sources.py"
    spec = importlib.util.spec_from_file_location("assets_sources", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return Scenes(train=12, validation=2, test=2)


# Groups


def test_the_groups_of_a_scene_are_its_recordings_and_scenes_share_them():
    test = Scenes().clips("test")
    recordings = Counter(name for clip in test for name in clip.groups)
    assert len(recordings) == 241
    label = {row["id"]: row["class"] for row in ROWS}
    for clip in test:
        assert {label[name] for name in clip.groups} == set(clip.labels)
    train = {name for clip in Scenes().clips("train") for name in clip.groups}
    assert not train & recordings.keys()


# Recordings


def test_the_files_are_those_in_the_list_of_recordings():
    listed = {file_of(row) for row in ROWS}
    assert len(listed) == len(ROWS)
    assert listed == set(mix.DATA.rglob("*.ogg"))
    for row in ROWS:
        assert hashlib.sha256(file_of(row).read_bytes()).hexdigest() == row["sha256"], row["id"]
    assert sum(file.stat().st_size for file in listed) < 20e6


def test_every_licence_is_free_and_every_file_is_attributed():
    attribution = (mix.DATA / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for row in ROWS:
        assert row["licence"] in FREE, row["id"]
        line = f"| {row['id']} | {row['package']} | {row['path']} | {row['licence']} | {row['author']} |"
        assert row["author"]
        assert line in attribution


def test_every_class_is_large_enough_and_in_every_split():
    total = Counter(row["class"] for row in ROWS)
    by_split = Counter((row["class"], row["split"]) for row in ROWS)
    assert len(mix.classes()) >= 24
    for label in mix.classes():
        assert 10 <= total[label] <= 40, label
        assert by_split[label, "validation"] >= 2, label
        assert by_split[label, "test"] >= 2, label
        assert by_split[label, "train"] >= 0.4 * total[label], label
    assert {split for label, split in by_split if label == "background"} == set(mix.SPLITS)


def test_recordings_decode_to_the_length_listed():
    for row in ROWS[::10]:
        wave = mix.decode(f"{row['class']}/{row['id']}.ogg")
        assert len(wave) / mix.RATE == pytest.approx(row["seconds"], abs=1e-3), row["id"]
        assert 0.3 < np.abs(wave).max() <= 1, row["id"]


def across_splits(
    fingerprints: np.ndarray, splits: np.ndarray, near_duplicates, threshold: float = 0.5
) -> list[tuple[int, int]]:
    return [(i, j) for i, j in near_duplicates(fingerprints, threshold).tolist() if splits[i] != splits[j]]


@pytest.mark.slow
def test_no_similar_recordings_are_in_different_splits(sources):
    rows = sorted(ROWS, key=lambda row: row["id"])
    waves = [mix.decode(f"{row['class']}/{row['id']}.ogg") for row in rows]
    fingerprints = np.stack([sources.fingerprint(wave) for wave in waves])
    splits = np.array([row["split"] for row in rows])
    assert across_splits(fingerprints, splits, sources.near_duplicates) == []

    culprit = sources.fingerprint(0.3 * waves[0][40:])  # the first recording, quieter and shorter, in another split
    pairs = across_splits(np.vstack([fingerprints, culprit]), np.append(splits, "elsewhere"), sources.near_duplicates)
    assert (0, len(rows)) in pairs


# Mixing


def test_scenes_depend_only_on_seed_split_and_number():
    small, large = Scenes(train=3, validation=2, test=1), Scenes(train=8, validation=2, test=1)
    backwards = [clip.audio for clip in reversed(large.clips("train"))][::-1]
    for i, clip in enumerate(small.clips("train")):
        other = large.clips("train")[i]
        assert (clip.id, clip.labels, clip.events, clip.split) == (other.id, other.labels, other.events, other.split)
        assert np.array_equal(clip.audio, backwards[i])
    assert mix.plan(0, "train", 0).seed != mix.plan(0, "validation", 0).seed
    assert mix.plan(0, "train", 0).seed != mix.plan(0, "train", 1).seed
    assert large.clips("train")[0].events != Scenes(train=1, seed=1).clips("train")[0].events


def test_labels_and_events_agree_and_lie_inside_the_clip():
    for split in mix.SPLITS:
        for clip in Scenes().clips(split):
            assert clip.labels == tuple(sorted({event.label for event in clip.events}))
            assert set(clip.labels) <= set(mix.classes())
            assert mix.EVENTS[0] <= len(clip.events) <= mix.EVENTS[1]
            assert all(0 <= e.onset < e.offset <= mix.SECONDS for e in clip.events)
            assert [e.onset for e in clip.events] == sorted(e.onset for e in clip.events)
            assert clip.split == split


def test_every_class_is_about_equally_frequent():
    counts = Counter(event.label for clip in Scenes().clips("train") for event in clip.events)
    mean = sum(counts.values()) / len(mix.classes())
    assert set(counts) == set(mix.classes())
    assert min(counts.values()) > 0.6 * mean
    assert max(counts.values()) < 1.5 * mean


def test_a_recording_is_used_in_one_split_only():
    split_of = {row["id"]: row["split"] for row in ROWS}
    for split in mix.SPLITS:
        for index in range(300):
            plan = mix.plan(0, split, index)
            used = [placed.recording for placed in plan.placed] + ([plan.wind] if plan.wind else [])
            assert {split_of[recording.id] for recording in used} == {split}


def test_audio_is_mono_float32_without_clipping(scenes):
    for clip in scenes.clips("train"):
        wave = clip.audio
        assert wave.dtype == np.float32
        assert wave.shape == (160_000,)
        assert np.isfinite(wave).all()
        assert 0 < np.abs(wave).max() < 1


def power(wave: np.ndarray) -> float:
    return float(np.mean(np.square(wave, dtype=np.float64)))


def test_events_have_the_planned_snr():
    planned = []
    for index in range(20):
        plan = mix.plan(0, "test", index)
        background = mix.background(plan)
        assert 10 * np.log10(power(background)) == pytest.approx(mix.BACKGROUND_DB, abs=0.01)
        for placed in plan.placed:
            local_background = background[placed.start : placed.start + placed.length]
            measured = 10 * np.log10(power(mix.event_audio(placed, local_background)) / power(local_background))
            assert measured == pytest.approx(placed.snr, abs=0.01)
            planned.append(placed.snr)
    assert mix.SNR_DB[0] <= min(planned) < mix.SNR_DB[0] + 4
    assert mix.SNR_DB[1] - 4 < max(planned) <= mix.SNR_DB[1]


def test_the_audio_differs_from_the_background_only_within_events():
    for index in range(12):
        plan = mix.plan(0, "validation", index)
        wave, background = mix.render(plan), mix.background(plan)
        extents = [slice(round(e.onset * mix.RATE), round(e.offset * mix.RATE)) for e in plan.events]
        quiet = np.ones(len(wave), bool)
        for extent in extents:
            quiet[extent] = False
        assert quiet.any()
        # the mixer scales the scene so that its peak is below one
        scale = wave[quiet] @ background[quiet] / (background[quiet] @ background[quiet])
        assert 0 < scale <= 1 + 1e-5
        assert np.allclose(wave[quiet], scale * background[quiet], atol=1e-6)
        for extent in extents:
            assert power(wave[extent]) > 2 * power(scale * background[extent])


@pytest.mark.parametrize(("semitones", "stretch"), [(0.0, 1.0), (3.0, 0.8), (-3.0, 1.2), (2.0, 1.1)])
def test_pitch_and_duration_change_by_the_given_factors(semitones, stretch):
    tone = np.sin(2 * np.pi * 500 * np.arange(32_000) / mix.RATE).astype(np.float32)
    length = round(len(tone) * stretch)
    wave = effects.change_pitch_and_duration(tone, semitones, stretch, length)
    assert len(wave) == length
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(length)))
    assert spectrum.argmax() * mix.RATE / length == pytest.approx(500 * 2 ** (semitones / 12), rel=0.01)
    assert np.sqrt(power(wave[1600:-1600])) == pytest.approx(np.sqrt(0.5), rel=0.05)


def test_time_stretch_moves_a_click_in_proportion_and_keeps_it_short():
    click = np.zeros(16_000, np.float32)
    click[8_000:8_020] = 1
    for factor in (0.7, 1.0, 1.4):
        wave = effects.time_stretch(click, factor)
        assert abs(int(np.abs(wave).argmax()) - 8_000 * factor) < 400
        assert np.count_nonzero(np.abs(wave) > 0.5) < 60


@pytest.mark.parametrize("samples", [1, 50, 1_600, 5_000])
def test_short_recordings_give_finite_audio(samples):
    wave = np.ones(samples, np.float32)
    for stretch in mix.STRETCH:
        out = effects.change_pitch_and_duration(wave, 3.0, stretch, round(samples * stretch))
        assert len(out) == round(samples * stretch)
        assert np.isfinite(out).all()


def test_noise_has_the_given_slope():
    white = np.random.default_rng(0).standard_normal(160_000).astype(np.float32)
    for slope in (0.0, 1.0, 2.0):
        spectrum = np.abs(np.fft.rfft(effects.coloured_noise(white, slope))) ** 2
        # two octaves whose frequencies differ by a factor of ten
        low, high = spectrum[2_000:4_000].mean(), spectrum[20_000:40_000].mean()
        assert 10 * np.log10(low / high) == pytest.approx(10 * slope, abs=0.5)


def test_a_loop_has_no_discontinuity():
    wave = np.sin(2 * np.pi * 100 * np.arange(40_000) / mix.RATE).astype(np.float32)
    loop = effects.make_loop(wave)
    assert abs(loop[0] - loop[-1]) < 0.1


def test_clips_can_be_pickled(scenes):
    clip = scenes.clips("test")[0]
    assert np.array_equal(pickle.loads(pickle.dumps(clip)).audio, clip.audio)


# Options


def test_the_digest_depends_on_every_option():
    digests = {Scenes(**options).digest for options in ({}, {"train": 9}, {"validation": 9}, {"test": 9}, {"seed": 1})}
    assert len(digests) == 5
    assert Scenes().digest == Scenes().digest


def test_wrong_options_and_splits_raise_clear_errors():
    with pytest.raises(ValueError, match="unknown split 'tset'; did you mean 'test'"):
        Scenes().clips("tset")
    with pytest.raises(TypeError, match="unknown option 'trian'; did you mean 'train'"):
        base.create("scenes", trian=3)
    with pytest.raises(TypeError):
        Scenes(3)
    for wrong in (-1, 2.5, True, "3"):
        with pytest.raises(ValueError, match="test must be a whole number >= 0"):
            Scenes(test=wrong)
