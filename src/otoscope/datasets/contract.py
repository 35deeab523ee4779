"""The contract of data sets: named checks that every data set must pass, including those of plug-ins.

Each check builds a new instance of the data set. Labels and events are checked for every clip, audio for at most 64
clips of each split. `otoscope check dataset` runs the contract from the command line. In the tests of a plug-in, pytest
runs each check as a separate test:

    from functools import partial
    from otoscope import datasets
    from otoscope.datasets.contract import CONTRACT

    @CONTRACT.parametrize([partial(datasets.create, "garden", folder="tests/garden")], ["garden"])
    def test_contract(check):
        check()
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile

from otoscope.contract import Contract, ContractError, expect
from otoscope.datasets.base import Dataset, create
from otoscope.metrics import main_metric
from otoscope.types import HELD_OUT, Clip, Wave

CLIPS = 64
"""Maximum number of clips of a split whose audio is checked. They are spread evenly over the split."""

DatasetSource = str | Callable[[], Dataset]
"""The argument of the checks: the name of a registered data set, or a function that builds one."""

CONTRACT = Contract[DatasetSource]("dataset")


def _build(subject: DatasetSource) -> Dataset:
    return create(subject) if isinstance(subject, str) else subject()


def _all_clips(dataset: Dataset) -> Iterator[Clip]:
    return chain.from_iterable(dataset.clips(split) for split in dataset.splits)


def _sample(clips: Sequence[Clip]) -> list[Clip]:
    """At most `CLIPS` of the clips, spread evenly over them."""
    count = min(len(clips), CLIPS)
    return [clips[i * len(clips) // count] for i in range(count)]


def _samples(dataset: Dataset) -> dict[str, list[Clip]]:
    return {split: _sample(dataset.clips(split)) for split in dataset.splits}


def _unchecked(dataset: Dataset) -> str:
    """A note on the splits of which only a sample of clips was checked; empty if all clips were checked."""
    sizes = {split: len(dataset.clips(split)) for split in dataset.splits}
    large = [f"{CLIPS} of {size:,} clips of {split}" for split, size in sizes.items() if size > CLIPS]
    return f"the audio of {', '.join(large)} was checked" if large else ""


def _name(clip: Clip) -> str:
    return f"clip {clip.id!r} of split {clip.split!r}"


@CONTRACT.check("ids")
def _ids(subject: DatasetSource) -> None:
    seen: dict[str, str] = {}
    for clip in _all_clips(_build(subject)):
        expect(
            clip.id not in seen, f"ids must be unique, {clip.id!r} is in {seen.get(clip.id)!r} and in {clip.split!r}"
        )
        seen[clip.id] = clip.split


@CONTRACT.check("splits")
def _splits(subject: DatasetSource) -> None:
    dataset = _build(subject)
    splits = dataset.splits
    expect(len(set(splits)) == len(splits), f"the names of splits must be distinct, found {splits}")
    expect({"train", HELD_OUT} <= set(splits), f"splits must include 'train' and {HELD_OUT!r}, found {splits}")
    for split in splits:
        clips = dataset.clips(split)
        expect(len(clips) > 0, f"every split needs clips, {split!r} has none")
        wrong = {clip.split for clip in clips} - {split}
        expect(not wrong, f"the clips of split {split!r} must have split={split!r}, found {sorted(wrong)}")


@CONTRACT.check("unknown split")
def _unknown_split(subject: DatasetSource) -> None:
    dataset = _build(subject)
    try:
        dataset.clips("no such split")
    except ValueError:
        return
    except Exception as error:
        raise ContractError(f"an unknown split must raise ValueError, found {type(error).__name__}: {error}") from error
    raise ContractError("an unknown split must raise ValueError, but clips() accepted it")


@CONTRACT.check("labels")
def _labels(subject: DatasetSource) -> None:
    dataset = _build(subject)
    classes = set(dataset.task.classes)
    for clip in _all_clips(dataset):
        other = [label for label in clip.labels if label not in classes]
        expect(not other, f"labels must be classes of the task, {_name(clip)} has {other}")
        one = dataset.task.kind != "multi-class" or len(clip.labels) == 1
        expect(one, f"a multi-class clip must have exactly one label, {_name(clip)} has {clip.labels}")


@CONTRACT.check("events")
def _events(subject: DatasetSource) -> str:
    """Labels of all events; their extent for the clips whose audio is checked."""
    dataset = _build(subject)
    for clip in _all_clips(dataset):
        other = sorted({event.label for event in clip.events} - set(clip.labels))
        expect(not other, f"the label of an event must be a label of its clip, {_name(clip)} has events of {other}")
    checked = False
    for clip in chain.from_iterable(_samples(dataset).values()):
        if clip.events:
            checked, last = True, max(event.offset for event in clip.events)
            samples, seconds = len(clip.audio), len(clip.audio) / clip.rate
            inside = last * clip.rate <= samples + 1
            expect(
                inside, f"events must lie inside the clip, {_name(clip)} has {seconds:g} s and an event until {last} s"
            )
    return _unchecked(dataset) if checked else ""


@CONTRACT.check("targets")
def _targets(subject: DatasetSource) -> None:
    dataset = _build(subject)
    task = dataset.task
    try:
        metric = main_metric(task)
    except (LookupError, ValueError) as error:
        raise ContractError(str(error)) from error
    for split in dataset.splits:
        targets = task.targets(dataset.clips(split))
        measurable = (targets.sum(0) > 0) & (targets.sum(0) < len(targets))
        expect(
            bool(measurable.any()),
            f"split {split!r} cannot be measured: no class has both a clip with its label and one without",
        )
        perfect = metric.value(2 * targets - 1, targets, task.kind)
        expect(bool(np.isfinite(perfect)), f"{metric.name} of perfect scores on split {split!r} is {perfect}")


@CONTRACT.check("audio")
def _audio(subject: DatasetSource) -> str:
    dataset = _build(subject)
    for clip in chain.from_iterable(_samples(dataset).values()):
        wave = clip.audio
        expect(isinstance(wave, np.ndarray), f"audio must be a NumPy array, {_name(clip)} gives {type(wave).__name__}")
        mono = wave.ndim == 1 and wave.dtype == np.float32
        expect(mono, f"audio must be mono float32 [S], {_name(clip)} gives {wave.dtype} {list(wave.shape)}")
        expect(len(wave) > 0, f"audio must not be empty, {_name(clip)} has no samples")
        expect(bool(np.isfinite(wave).all()), f"audio must be finite, {_name(clip)} has NaN or infinite samples")
    return _unchecked(dataset)


@CONTRACT.check("rate")
def _rate(subject: DatasetSource) -> str:
    """The declared rate, against the duration of the audio file where `Clip.load` names one."""
    dataset = _build(subject)
    clips = list(chain.from_iterable(_samples(dataset).values()))
    compared = 0
    for clip in clips:
        file = _audio_file(clip)
        if file is not None:
            info, seconds = soundfile.info(file), len(clip.audio) / clip.rate
            same = clip.rate == info.samplerate or abs(seconds - info.duration) <= 0.01 * info.duration
            expect(
                same,
                f"{_name(clip)} declares {clip.rate} Hz and so lasts {seconds:g} s, but {file} has "
                f"{info.samplerate} Hz and {info.duration:g} s",
            )
            compared += 1
    actual = (
        f"the rate of {compared} of {len(clips)} clips was compared with an audio file; the others bind no path to load"
    )
    return actual if compared < len(clips) else _unchecked(dataset)


def _audio_file(clip: Clip) -> Path | None:
    """The file `clip.path`, or one among the arguments to which `clip.load`, a partial or a function, is bound."""
    load = clip.load
    bound = [
        clip.path,
        *getattr(load, "args", ()),
        *getattr(load, "keywords", {}).values(),
        *(getattr(load, "__defaults__", None) or ()),
        *getattr(load, "__dict__", {}).values(),
    ]
    for value in bound:
        if isinstance(value, (str, Path)) and Path(value).is_file():
            try:
                soundfile.info(value)
            except soundfile.LibsndfileError:
                continue
            return Path(value)
    return None


@CONTRACT.check("disjoint audio")
def _disjoint_audio(subject: DatasetSource) -> str:
    dataset = _build(subject)
    seen: dict[str, Clip] = {}
    for clip in chain.from_iterable(_samples(dataset).values()):
        other = seen.setdefault(_content(clip.audio), clip)
        same = f"{_name(other)} and {_name(clip)}"
        expect(other.split == clip.split, f"no recording may be in two splits, {same} have the same samples")
    return _unchecked(dataset)


def _content(wave: Wave) -> str:
    return hashlib.sha256(np.ascontiguousarray(wave).tobytes()).hexdigest()


@CONTRACT.check("stable")
def _stable(subject: DatasetSource) -> None:
    """Two calls of one data set, and two equal data sets, must give the same clips (audio: 8 clips per split)."""
    dataset = _build(subject)
    for split in dataset.splits:
        first = dataset.clips(split)
        for second, how in (
            (dataset.clips(split), "a second call"),
            (_build(subject).clips(split), "another instance"),
        ):
            same = [_labelled(clip) for clip in first] == [_labelled(clip) for clip in second]
            expect(same, f"{how} must give the same clips in the same order, split {split!r} differs")
            for old, new in list(zip(first, second, strict=True))[:8]:
                expect(np.array_equal(old.audio, new.audio), f"{how} must give the same audio, {_name(old)} differs")


def _labelled(clip: Clip) -> tuple[object, ...]:
    return clip.id, clip.rate, clip.labels, clip.events, clip.split, clip.groups


@CONTRACT.check("digest")
def _digest(subject: DatasetSource) -> None:
    dataset = _build(subject)
    digest = dataset.digest
    expect(isinstance(digest, str) and bool(digest), f"the digest must be a text that is not empty, found {digest!r}")
    for split in dataset.splits:
        dataset.clips(split)
    expect(dataset.digest == digest, "the digest must not change when clips are read")
    expect(_build(subject).digest == digest, "two data sets built alike must have the same digest")
