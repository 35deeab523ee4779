"""BEANS, the benchmark of animal sounds (Hagiwara et al., ICASSP 2023), as its scripts prepare it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from otoscope.datasets.base import register
from otoscope.datasets.catalog._declaration import Declaration
from otoscope.datasets.catalog._named import NamedDataset, shipped
from otoscope.datasets.sources import AudioFiles, Length, Row, Rows, events_between, one_each, read_table
from otoscope.datasets.sources.audio import AudioFile
from otoscope.datasets.sources.splits import SPLIT_OF_PART
from otoscope.types import Event

_CLASSES: dict[str, list[str]] = shipped("beans")


def _declare(tables: str, rate: int, source: str, licence: str, clips: Mapping[str, int], *faults: str) -> Declaration:
    return Declaration(
        folders=("BEANS", "beans"),
        markers=(tables.format("test"),),
        layout={tables.format(part): f"the table of the {split} split" for part, split in SPLIT_OF_PART.items()},
        homepage="https://github.com/earthspecies/beans",
        licence=licence,
        citation="M. Hagiwara et al. BEANS: The Benchmark of Animal Sounds. ICASSP, 2023. arXiv 2210.12300.",
        clips=clips,
        size="about 300 GB for all of BEANS",
        rates=(rate,),
        faults=(*faults, "BEANS pads short clips with zeros; here they keep their length."),
        unverified=("The licence of the source.", "The number of clips, which is not published for each split."),
        instructions="Clone https://github.com/earthspecies/beans into the data folder as BEANS and run "
        f"scripts/download_data.sh there; it needs SoX 14.4 and, for cbi and rfcx, a Kaggle token. Source: {source}.",
    )


class _Classification(NamedDataset):
    """A task of BEANS with one label for each clip, in tables with the columns path and label."""

    kind = "multi-class"
    tables: str

    def list_rows(self) -> Rows:
        """List the clips of the three tables, as `NamedDataset.list_rows`."""
        paths, labels, splits = [], [], []
        for part, split in SPLIT_OF_PART.items():
            table = read_table(self.folder / self.tables.format(part))
            paths += table["path"]
            labels += table["label"]
            splits += [split] * len(table)
        return Rows(paths, AudioFiles(self.folder, paths), one_each(labels), splits)


class _Detection(NamedDataset):
    """A task of BEANS with windows of recordings, in JSON Lines with path, length and annotations."""

    kind = "multi-label"
    tables: str
    window: float
    hop: float
    other: str = ""

    def list_rows(self) -> Rows:
        """List the windows of all recordings, as `NamedDataset.list_rows`."""
        rows: list[Row] = []
        for part, split in SPLIT_OF_PART.items():
            with (self.folder / self.tables.format(part)).open(encoding="utf-8") as file:
                for line in file:
                    rows += self._windows(json.loads(line), split)
        return Rows.of(rows)

    def _windows(self, recording: Mapping[str, Any], split: str) -> Iterator[Row]:
        """The complete windows of a recording. Labels are those of the events that overlap one enough."""
        path = str(recording["path"])
        audio = AudioFile(self.folder / path)
        events = [Event(float(e["st"]), float(e["ed"]), self._class(str(e["label"]))) for e in recording["annotations"]]
        for number in range(int((recording["length"] - self.window) / self.hop) + 1):
            start = number * self.hop
            inside = [event for event in events if _belongs(event, start, start + self.window)]
            labels = tuple(sorted({event.label for event in inside}))
            cut = events_between(inside, start, start + self.window)
            yield Row(f"{path}@{start:g}", audio, labels, split, "", (path,), start, start + self.window, cut)

    def _class(self, label: str) -> str:
        """The class of an annotation: `other` for one that is no class, in the tasks that have such a class."""
        return self.other if self.other and label not in (self.classes or ()) else label


def _belongs(event: Event, start: float, end: float) -> bool:
    """Whether an event labels a window: by more than a fifth of the shorter of both, or when it spans the window.

    >>> _belongs(Event(1.9, 3, "a"), 0, 2), _belongs(Event(1.5, 3, "a"), 0, 2)
    (False, True)
    """
    if event.onset <= start and end <= event.offset:
        return True
    shorter = min(end - start, event.offset - event.onset)
    return shorter > 0 and (min(end, event.offset) - max(start, event.onset)) / shorter > 0.2


def _register(name: str, base: type[NamedDataset], about: str, declaration: Declaration, **attributes: Any) -> None:
    classes: Sequence[str] = _CLASSES[attributes.pop("listed", name)]
    values = {"__doc__": about, "__module__": __name__, "classes": tuple(classes), **attributes}
    values |= {"declaration": declaration, "tables": declaration.markers[0].replace("test", "{0}")}
    register(name)(type(name.title(), (base,), values))


def _classification(name: str, about: str, seconds: float, declaration: Declaration) -> None:
    _register(name, _Classification, about, declaration, length=Length(window=seconds))


def _detection(name: str, about: str, window: float, hop: float, declaration: Declaration, **more: Any) -> None:
    _register(name, _Detection, about, declaration, window=window, hop=hop, **more)


_RANDOM = "The split is random: clips of one recording or animal are in several splits."
_PAST = "The splits are parts of the same recordings, one after another."

_classification(
    "watkins",
    "BEANS watkins: marine mammals, 31 species; the first 3 s.",
    3,
    _declare(
        "data/watkins/annotations.{0}.csv", 44100, "Watkins Marine Mammal Sound Database", "for research", {}, _RANDOM
    ),
)
_classification(
    "bats",
    "BEANS bats: Egyptian fruit bats, 10 individuals; the first 5 s.",
    5,
    _declare(
        "data/egyptian_fruit_bats/annotations.{0}.csv",
        250000,
        "Prat et al., 2017",
        "CC-BY-4.0",
        {},
        "The recordings have 250 kHz: what an encoder with a lower rate loses decides the result.",
        _RANDOM,
    ),
)
_classification(
    "cbi",
    "BEANS cbi: birds of Xeno-Canto, 264 species; the first 10 s.",
    10,
    _declare("data/cbi/annotations.{0}.csv", 44100, "Kaggle birdsong-recognition", "rules of the competition", {}),
)
_classification(
    "dogs",
    "BEANS dogs: barks of 10 dogs; the first 10 s.",
    10,
    _declare("data/dogs/annotations.{0}.csv", 44100, "Yin and McCowan, 2004", "for research", {}, _RANDOM),
)
_classification(
    "humbugdb",
    "BEANS humbugdb: mosquitoes, 14 classes; the first 3 s.",
    3,
    _declare(
        "data/HumBugDB/data/metadata/{0}.csv", 44100, "Kiskin et al., 2021, Zenodo 4904800", "CC-BY-4.0", {}, _RANDOM
    ),
)
_detection(
    "dcase",
    "BEANS dcase: few-shot development recordings of DCASE 2021 task 5, 18 classes; windows of 2 s every 1 s.",
    2,
    1,
    _declare("data/dcase/{0}.jsonl", 16000, "Zenodo 5412896", "CC-BY-4.0", {}, _PAST),
)
_detection(
    "enabirds",
    "BEANS enabirds: dawn chorus of birds, 34 classes with others; windows of 2 s every 1 s.",
    2,
    1,
    _declare("data/enabirds/{0}.jsonl", 32000, "Chronister et al., 2021", "CC0", {}, _PAST),
    other="OTHR",
)
_detection(
    "hiceas",
    "BEANS hiceas: minke whales; windows of 10 s every 5 s.",
    10,
    5,
    _declare("data/hiceas/{0}.jsonl", 22050, "HICEAS 2017, NOAA", "public domain", {}),
)
_detection(
    "rfcx",
    "BEANS rfcx: birds and frogs of the rainforest, 24 species; windows of 10 s every 5 s.",
    10,
    5,
    _declare("data/rfcx/{0}.jsonl", 48000, "Kaggle rfcx-species-audio-detection", "rules of the competition", {}),
)
_detection(
    "gibbons",
    "BEANS gibbons: Hainan gibbons, 3 types of calls; windows of 4 s every 2 s.",
    4,
    2,
    _declare("data/hainan_gibbons/{0}.jsonl", 9600, "Dufourq et al., 2021, Zenodo 3991714", "CC-BY-4.0", {}),
    other="1",
    listed="hainan-gibbons",
)
