"""Miniatures of the named data sets in their official layout on disk, made of short noises."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

import helpers_sources as helpers
from otoscope import datasets
from otoscope.datasets.catalog import esc50, gtzan, speech_commands, urbansound8k
from otoscope.datasets.catalog._named import shipped

_SEEDS = count()
"""Every file has other samples."""

WRITERS: dict[str, Callable[[Path], None]] = {}
"""The function that writes the miniature of each data set into a folder of data sets."""


def miniature(name: str) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Register the writer of a miniature."""

    def add(writer: Callable[[Path], None]) -> Callable[[Path], None]:
        WRITERS[name] = writer
        return writer

    return add


def write_miniature(name: str, root: Path) -> Path:
    """Write the miniature of a data set into the folder `root`."""
    WRITERS[name](root)
    return root


def _audio(*paths: Path, seconds: float = 0.05) -> None:
    for path in paths:
        helpers.write_audio(path, seed=next(_SEEDS), seconds=seconds)


def _csv(path: Path, header: str, rows: Iterable[Sequence[Any]], delimiter: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([*([header.split()] if header else []), *rows])


def _text(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@miniature("esc50")
def _esc50(root: Path, classes: Sequence[int] = (0, 1, 49)) -> None:
    rows = []
    for fold in range(1, 6):
        for number, take in [(number, take) for number in classes for take in "AB"]:
            source = 7 if (fold, number) in ((1, 0), (2, 0)) else 100 * fold + number  # one source spans two folds
            name, category = f"{fold}-{source}-{take}-{number}.wav", esc50.CLASSES[number]
            _audio(root / "ESC-50" / "audio" / name)
            ten = str(number in (0, 1))
            rows.append((name, fold, number, category, ten, source, take))
    _csv(root / "ESC-50" / "meta" / "esc50.csv", "filename fold target category esc10 src_file take", rows)


@miniature("esc10")
def _esc10(root: Path) -> None:
    for folder, names in shipped("esc10").items():
        for name in names:
            path = root / "ESC-10" / folder / f"{name}.ogg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(helpers.audio_bytes(seed=next(_SEEDS), seconds=0.02, rate=44100, format="OGG"))
    (root / "ESC-10" / "README.txt").write_text("ESC-10")


@miniature("urbansound8k")
def _urbansound8k(root: Path) -> None:
    rows = []
    for fold in range(1, 11):
        for number in (0, 3):
            name = f"{fold}{number}-{number}-0-0.wav"
            _audio(root / "UrbanSound8K" / "audio" / f"fold{fold}" / name)
            rows.append((name, f"{fold}{number}", 0.0, 4.0, 1, fold, number, urbansound8k.CLASSES[number]))
    header = "slice_file_name fsID start end salience fold classID class"
    _csv(root / "UrbanSound8K" / "metadata" / "UrbanSound8K.csv", header, rows)


def _speech_commands(root: Path) -> None:
    folder = root / "speech_commands_v0.02"
    names = {split: [f"{word}/{split}_nohash_0.wav" for word in ("yes", "no", "zero")] for split in ("a", "b", "c")}
    _audio(*(folder / name for split in names.values() for name in split))
    (folder / "validation_list.txt").write_text("\n".join(names["b"]) + "\n")
    (folder / "testing_list.txt").write_text("\n".join(names["c"]) + "\n")
    noise = folder / "_background_noise_"
    _audio(noise / "running_tap.wav", noise / "pink_noise.wav", seconds=2)
    (folder / "_background_noise_" / "README.md").write_text("noise")


for _name in ("speech-commands-v2", "sc2"):
    miniature(_name)(_speech_commands)


@miniature("speech-commands-v2-12")
def _speech_commands_12(root: Path) -> None:
    _speech_commands(root)
    for label in (*speech_commands.COMMANDS, speech_commands.SILENCE, speech_commands.UNKNOWN):
        suffix = ".wav.wav" if label == speech_commands.UNKNOWN else ".wav"
        _audio(root / "speech_commands_test_set_v0.02" / label / f"d_nohash_0{suffix}")


@miniature("gtzan")
def _gtzan(root: Path) -> None:
    for genre in gtzan.CLASSES:
        for number in range(100):
            path = root / "genres" / genre / f"{genre}.{number:05d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(helpers.audio_bytes(seed=next(_SEEDS), seconds=0.005))


@miniature("nsynth")
def _nsynth(root: Path) -> None:
    for split, second in (("train", "synth_lead"), ("valid", "flute"), ("test", "flute")):
        folder, table = root / "nsynth" / f"nsynth-{split}", {}
        for number, family in enumerate(("bass", second)):
            name = f"{family}_{split}_00{number}-060-100"
            _audio(folder / "audio" / f"{name}.wav")
            instrument = name.partition("-")[0]
            table[name] = {"instrument_str": instrument, "instrument_family_str": family, "pitch": 60 + number}
        (folder / "examples.json").write_text(json.dumps(table))


@miniature("voxceleb1-id")
def _voxceleb(root: Path) -> None:
    lines = []
    for speaker in ("id10001", "id10002"):
        for number, video in (("1", "Y8hIVOBuels"), ("2", "1zcIwhmdeo4"), ("3", "7gWzIy6yIIk")):
            name = f"{speaker}/{video}/00001.wav"
            _audio(root / "VoxCeleb1" / "wav" / name)
            lines.append(f"{number} {name}")
    _text(root / "VoxCeleb1" / "iden_split.txt", [*lines, "1 id10003/removed/00001.wav"])


@miniature("fsd50k")
def _fsd50k(root: Path) -> None:
    folder, truth = root / "FSD50K", root / "FSD50K" / "FSD50K.ground_truth"
    rows = []
    for number, split in enumerate(("train", "train", "val", "val", "test", "test")):
        labels, mids = (("Accordion,Music", "/m/0mkg,/m/04rlf"), ("Bark,Dog", "/m/05tny_,/m/0bt9lr"))[number % 2]
        rows.append((number, labels, mids, split))
        _audio(folder / ("FSD50K.eval_audio" if split == "test" else "FSD50K.dev_audio") / f"{number}.wav")
    _csv(truth / "dev.csv", "fname labels mids split", rows[:4])
    _csv(truth / "eval.csv", "fname labels mids", [row[:3] for row in rows[4:]])


@miniature("urban-sed")
def _urban_sed(root: Path) -> None:
    for split in ("train", "validate", "test"):
        for number, label in enumerate(("siren", "dog_bark")):
            name = f"soundscape_{split}_bimodal{number}"
            _audio(root / "URBAN-SED_v2.0.0" / "audio" / split / f"{name}.wav", seconds=0.5)
            table = root / "URBAN-SED_v2.0.0" / "annotations" / split / f"{name}.txt"
            _text(table, [f"0.1\t0.3\t{label}", "0.2\t0.25\tjackhammer"][: 2 - number])
            value = {"label": label, "event_duration": 3.0}
            data = [{"time": 0.1, "duration": 0.2, "value": value}]
            table.with_suffix(".jams").write_text(json.dumps({"annotations": [{"namespace": "scaper", "data": data}]}))


@miniature("desed")
def _desed(root: Path) -> None:
    folder = root / "DESED"
    weak = [(f"Ytrain{number}_0.000_10.000.wav", ("Cat", "Dog,Speech", "Cat,Dog")[number]) for number in range(3)]
    _audio(*(folder / "audio" / "train" / "weak" / name for name, _ in weak[:2]), seconds=0.5)
    _csv(folder / "metadata" / "train" / "weak.tsv", "filename event_labels", weak, "\t")
    for part, place, name in (("validation", "validation/validation", "validation"), ("eval", "eval/public", "public")):
        events = [(f"Y{name}0.wav", 0.0, 0.4, "Cat"), (f"Y{name}0.wav", 0.1, 0.2, "Cat"), (f"Y{name}1.wav", "", "", "")]
        _audio(*(folder / "audio" / place / f"Y{name}{number}.wav" for number in (0, 1)), seconds=0.5)
        _csv(folder / "metadata" / part / f"{name}.tsv", "filename onset offset event_label", events, "\t")


def _segments(path: Path, videos: Iterable[tuple[str, str]]) -> None:
    lines = [f'{video}, 30.000, 40.000, "{mids}"' for video, mids in videos]
    header = ["# Segments csv created Sun Mar  5 10:54:31 2017", "# num_ytids=2, num_segs=2, num_unique_labels=2"]
    _text(path, [*header, "# YTID, start_seconds, end_seconds, positive_labels", *lines])


def _audioset(root: Path) -> None:
    folder, speech, dog = root / "AudioSet", "/m/09x0r,/t/dd00088", "/m/0bt9lr"
    train = [("--aE2O5G5WE", speech), ("_bE2O5G5WE0", dog), ("-Lost000000", dog)]
    _segments(folder / "balanced_train_segments.csv", train)
    _segments(folder / "eval_segments.csv", [("Y-cE2O5G5WE", speech), ("dE2O5G5WE00", dog)])
    _audio(*(folder / "audio" / "balanced" / name for name in ("--aE2O5G5WE.wav", "Y_bE2O5G5WE0.wav")))
    _audio(*(folder / "audio" / "eval" / name for name in ("YY-cE2O5G5WE.flac", "dE2O5G5WE00_30.000.wav")))


@miniature("as20k")
def _as20k(root: Path) -> None:
    _audioset(root)


@miniature("as2m")
def _as2m(root: Path) -> None:
    _audioset(root)
    _segments(root / "AudioSet" / "unbalanced_train_segments.csv", [("eE2O5G5WE-_", "/m/09x0r")])
    _audio(root / "AudioSet" / "audio" / "unbalanced" / "eE2O5G5WE-_.wav")


@miniature("spass")
def _spass(root: Path) -> None:
    for number in range(20):
        stem = root / "SPASS" / ("park", "market")[number % 2] / f"{number:06d}"
        _audio(stem.with_suffix(".wav"), seconds=0.1)
        _text(stem.with_suffix(".txt"), [f"0.02\t0.06\t{('birds', 'voices')[number % 2]}"])


@miniature("dcase2016-task2")
def _dcase2016(root: Path) -> None:
    folder = root / "tasks" / "dcase2016_task2-hear2021-full"
    for split in ("train", "valid", "test"):
        _audio(folder / "48000" / split / f"{split}_1.wav", seconds=20)
        events = [
            {"start": 500.0, "end": 1500.0, "label": "knock"},
            {"start": 9000.0, "end": 11000.0, "label": "phone"},
        ]
        _text(folder / f"{split}.json", [json.dumps({f"{split}_1.wav": events})])
    _text(folder / "task_metadata.json", [json.dumps({"task_name": "dcase2016_task2", "embedding_type": "event"})])
    _text(folder / "labelvocabulary.csv", ["idx,label", "0,knock", "1,phone"])


def _birdset(config: str, root: Path) -> None:
    classes, folder = shipped("birdset")[config], root / "BirdSet" / config
    train = [(f"XC{number}.ogg", [code], code) for number, code in enumerate(classes[:2])]
    codes = ([classes[0]], [classes[1], classes[0]], [])
    test = [(f"{config}_{number}.ogg", labels) for number, labels in enumerate(codes)]
    for shard, seconds, names in (("train", 6, train), ("test5s", 5, test)):
        for name, *_ in names:
            path = folder / f"{config}_{shard}_shard_0001" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(helpers.audio_bytes(seed=next(_SEEDS), seconds=seconds, rate=8000, format="OGG"))
    events = {"detected_events": [[[0.5, 1.0], [4.0, 5.0]], []], "event_cluster": [[-1, 0], []]}
    columns = {"filepath": [n for n, *_ in train], "ebird_code_multilabel": [c for _, c, _ in train], **events}
    suffix = "" if config == "XCM" else "_train"
    parquet.write_table(pyarrow.table(columns), folder / f"{config}_metadata{suffix}.parquet")
    columns = {"filepath": [f"data/{n}" for n, _ in test], "ebird_code_multilabel": [c for _, c in test]}
    parquet.write_table(pyarrow.table(columns), folder / f"{config}_metadata_test_5s.parquet")


for _config in ("HSN", "POW", "PER", "NES", "SNE", "NBP", "SSW", "UHH"):
    miniature(_config.lower())(partial(_birdset, _config))


@miniature("xcm")
def _xcm(root: Path) -> None:
    _birdset("XCM", root)
    _birdset("POW", root)


def _beans_clips(name: str, root: Path) -> None:
    cls = datasets.registry.get(name)
    number = 0
    for part in ("train", "valid", "test"):
        rows = []
        for label in shipped("beans")[name][:2]:
            path = f"data/{name}/{number}.wav"
            _audio(root / "BEANS" / path)
            rows.append((number, path, label))
            number += 1
        _csv(root / "BEANS" / cls.declaration.markers[0].replace("test", part), "", [("", "path", "label"), *rows])


for _name in ("watkins", "bats", "cbi", "dogs", "humbugdb"):
    miniature(_name)(partial(_beans_clips, _name))


def _beans_windows(name: str, root: Path) -> None:
    cls = datasets.registry.get(name)
    for part in ("train", "valid", "test"):
        path = f"data/{name}/wav/{part}.000.wav"
        _audio(root / "BEANS" / path, seconds=20)
        label = cls.classes[0] if cls.classes[0] != "1" else 1
        about = {"path": path, "length": 20.0, "annotations": [{"st": 1.0, "ed": 4.5, "label": label}]}
        _text(root / "BEANS" / cls.declaration.markers[0].replace("test", part), [json.dumps(about)])


for _name in ("dcase", "enabirds", "hiceas", "rfcx", "gibbons"):
    miniature(_name)(partial(_beans_windows, _name))
