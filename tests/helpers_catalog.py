"""Miniatures of the named data sets in their official layout on disk, made of short noises."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import helpers_sources as helpers
from otoscope.datasets.catalog import esc50, gtzan, speech_commands, urbansound8k

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
    for folder in ("001 - Dog bark", "002 - Rain", "010 - Fire crackling"):
        for fold in range(1, 6):
            path = root / "ESC-10" / folder / f"{fold}-{fold}00-A.ogg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(helpers.audio_bytes(seed=next(_SEEDS), rate=44100, format="OGG"))
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
