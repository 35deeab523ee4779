"""The data sets of the package pass the contract, and for every check there is a data set that fails it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from otoscope import datasets
from otoscope.audio.decode import decode
from otoscope.datasets import Dataset
from otoscope.datasets.contract import CONTRACT, DatasetSource
from otoscope.types import Clip, Event, Task, Wave
from toys import Tones

SMALL_SCENES = partial(datasets.create, "scenes", train=8, validation=4, test=4)


@CONTRACT.parametrize([SMALL_SCENES, Tones, partial(Tones, kind="multi-class")], ["scenes", "tones", "tones-one-label"])
def test_data_sets(check):
    check()


def noise(seed: int, samples: int = 1000) -> Wave:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


class Sound(Dataset):
    """A data set that passes: three splits of four clips of one second, at 1 kHz, of two classes."""

    name, digest = "sound", "sound-1"
    task = Task(("cat", "dog"), "multi-class", "accuracy")
    splits: tuple[str, ...] = ("train", "validation", "test")

    def clips(self, split: str) -> Sequence[Clip]:
        if split not in self.splits:
            raise ValueError(f"unknown split {split!r}")
        return [self.clip(split, number) for number in range(4)]

    def clip(self, split: str, number: int) -> Clip:
        label = self.task.classes[number % 2]
        seed = 10 * len(split) + number
        return Clip(f"{split}-{number}", partial(noise, seed), 1000, (label,), (Event(0.1, 1.0, label),), split)


def changed(name: str, **changes: Callable[[Clip], object]) -> type[Sound]:
    """A data set that is sound but for some attributes of its clips."""

    class Changed(Sound):
        def clip(self, split: str, number: int) -> Clip:
            clip = super().clip(split, number)
            return replace(clip, **{key: change(clip) for key, change in changes.items()})

    Changed.__name__ = name
    return Changed


def audio(change: Callable[[Wave], Wave]) -> Callable[[Clip], Callable[[], Wave]]:
    return lambda clip: lambda: change(clip.audio)


class AcceptsEverySplit(Sound):
    def clips(self, split: str) -> Sequence[Clip]:
        return [self.clip(split, number) for number in range(4)]


class LooksUpTheSplit(Sound):
    def clips(self, split: str) -> Sequence[Clip]:
        return {name: Sound.clips(self, name) for name in self.splits}[split]


class EmptyTest(Sound):
    def clips(self, split: str) -> Sequence[Clip]:
        return [] if split == "test" else super().clips(split)


class WithoutTest(Sound):
    splits = ("train", "validation")


class NamesASplitTwice(Sound):
    splits = ("train", "test", "test")


class WrongMetric(Sound):
    task = Task(("cat", "dog"), "multi-label", "accuracy")


class UnknownMetric(Sound):
    task = Task(("cat", "dog"), "multi-class", "acuracy")


class NewClipsAtEveryCall(Sound):
    count = itertools.count()

    def clip(self, split: str, number: int) -> Clip:
        return replace(super().clip(split, number), id=f"{split}-{next(self.count)}")


class NewAudioAtEveryCall(Sound):
    count = itertools.count()

    def clip(self, split: str, number: int) -> Clip:
        return replace(super().clip(split, number), load=partial(noise, next(self.count)))


class NewOrderInEveryInstance(Sound):
    count = itertools.count()

    def __init__(self) -> None:
        self.turn = next(self.count)

    def clips(self, split: str) -> Sequence[Clip]:
        clips = list(super().clips(split))
        return clips[self.turn % 4 :] + clips[: self.turn % 4]


class NewDigestInEveryInstance(Sound):
    count = itertools.count()

    def __init__(self) -> None:
        self.digest = str(next(self.count))


class CountsCallsInTheDigest(Sound):
    def __init__(self) -> None:
        self.digest = "0"

    def clip(self, split: str, number: int) -> Clip:
        self.digest += "0"
        return super().clip(split, number)


class WithoutDigest(Sound):
    digest = ""


CULPRITS = [
    ("ids", changed("SameIdInTwoSplits", id=lambda clip: clip.id[-1]), "'0' is in 'train' and in 'validation'"),
    ("ids", changed("SameIdInOneSplit", id=lambda clip: clip.split), "'train' is in 'train' and in 'train'"),
    ("ids", changed("EmptyId", id=lambda _: ""), "must be a text that is not empty"),
    ("splits", changed("WrongSplit", split=lambda _: "train"), "must have split='validation', found ['train']"),
    ("splits", EmptyTest, "'test' has none"),
    ("splits", WithoutTest, "must include 'train' and 'test'"),
    ("splits", NamesASplitTwice, "must be distinct"),
    ("unknown split", AcceptsEverySplit, "but clips() accepted it"),
    ("unknown split", LooksUpTheSplit, "must raise ValueError, found KeyError"),
    ("labels", changed("UnknownLabel", labels=lambda _: ("cow",)), "clip 'train-0' of split 'train' has ['cow']"),
    ("labels", changed("TwoLabels", labels=lambda _: ("cat", "dog")), "must have exactly one label"),
    ("labels", changed("NoLabel", labels=lambda _: ()), "must have exactly one label"),
    ("labels", changed("RepeatedLabel", labels=lambda _: ("cat", "cat")), "must be a tuple of distinct texts"),
    (
        "events",
        changed("LateEvent", events=lambda c: (Event(0.1, 1.1, c.labels[0]),)),
        "has 1 s and an event until 1.1 s",
    ),
    ("events", changed("OtherEvent", events=lambda _: (Event(0, 1, "dog"),)), "has events of ['dog']"),
    ("targets", WrongMetric, "metric 'accuracy' does not apply to a multi-label task"),
    ("targets", UnknownMetric, "unknown metric for a multi-class task 'acuracy'; did you mean 'accuracy'"),
    ("targets", changed("OneClass", labels=lambda _: ("cat",)), "split 'train' cannot be measured"),
    ("audio", changed("Float64", load=audio(lambda wave: wave.astype(np.float64))), "gives float64 [1000]"),
    ("audio", changed("Stereo", load=audio(lambda wave: np.stack([wave, wave]))), "gives float32 [2, 1000]"),
    ("audio", changed("NoSamples", load=audio(lambda wave: wave[:0])), "has no samples"),
    ("audio", changed("NotFinite", load=audio(lambda wave: wave / 0.0 * 0.0)), "has NaN or infinite samples"),
    ("audio", changed("List", load=audio(lambda wave: wave.tolist())), "gives list"),
    ("rate", changed("NoRate", rate=lambda _: 0), "found 0"),
    ("rate", changed("FractionalRate", rate=lambda _: 1000.5), "found 1000.5"),
    (
        "disjoint audio",
        changed("SharedAudio", load=lambda clip: partial(noise, int(clip.id[-1]))),
        "have the same samples",
    ),
    ("stable", NewClipsAtEveryCall, "a second call must give the same clips"),
    ("stable", NewAudioAtEveryCall, "a second call must give the same audio"),
    ("stable", NewOrderInEveryInstance, "another instance must give the same clips"),
    ("digest", NewDigestInEveryInstance, "two data sets built alike"),
    ("digest", CountsCallsInTheDigest, "must not change when clips are read"),
    ("digest", WithoutDigest, "must be a text that is not empty"),
]


def test_the_culprits_are_variants_of_a_data_set_that_passes() -> None:
    assert [result for result in CONTRACT.run("sound", Sound) if not result.passed] == []


def test_every_check_has_a_culprit() -> None:
    assert {check for check, _, _ in CULPRITS} == set(CONTRACT.checks)


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize(("check", "culprit", "reason"), CULPRITS, ids=[culprit.__name__ for _, culprit, _ in CULPRITS])
def test_culprit_is_caught(check: str, culprit: DatasetSource, reason: str) -> None:
    [result] = CONTRACT.run("culprit", culprit, [check])
    assert not result.passed
    assert reason in result.message


def test_a_sample_of_a_large_split_is_checked_and_the_result_says_so() -> None:
    sizes = {"train": 100, "validation": 4, "test": 4}
    results = {result.check: result for result in CONTRACT.run("tones", partial(Tones, sizes=sizes))}
    assert all(result.passed for result in results.values())
    for check in ("audio", "disjoint audio", "events"):
        assert results[check].message == "the audio of 64 of 100 clips of train was checked"
    assert (
        results["rate"].message
        == "the rate of 0 of 72 clips was compared with an audio file; the others bind no path to load"
    )
    assert results["labels"].message == ""


class Files(Sound):
    """Clips in files of one second at 8 kHz, loaded with their rate or resampled to another one."""

    def __init__(self, folder: Path, rate: int, *, as_default: bool = False) -> None:
        self.folder, self.rate, self.as_default = folder, rate, as_default
        for split in self.splits:
            for number in range(4):
                soundfile.write(folder / f"{split}-{number}.wav", noise(number, 8000), 8000)

    def clip(self, split: str, number: int) -> Clip:
        file = self.folder / f"{split}-{number}.wav"
        load = (lambda file=file: decode(file)[0]) if self.as_default else partial(_decode_every_second_sample, file)
        return replace(super().clip(split, number), load=load, rate=self.rate)


def _decode_every_second_sample(file: Path) -> Wave:
    return decode(file)[0][::2]


@pytest.mark.parametrize(("rate", "as_default"), [(8000, True), (4000, False)])
def test_a_rate_that_agrees_with_the_file_passes(rate: int, as_default: bool, tmp_path: Path) -> None:
    [result] = CONTRACT.run("files", partial(Files, tmp_path, rate, as_default=as_default), ["rate"])
    assert (result.passed, result.message) == (True, "")


def test_a_rate_that_disagrees_with_the_file_is_caught(tmp_path: Path) -> None:
    [result] = CONTRACT.run("files", partial(Files, tmp_path, 16000, as_default=True), ["rate"])
    assert not result.passed
    assert "declares 16000 Hz and so lasts 0.5 s, but" in result.message
    assert "train-0.wav has 8000 Hz and 1 s" in result.message
