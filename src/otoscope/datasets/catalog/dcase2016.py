"""DCASE 2016 task 2 as HEAR 2021 repartitioned it: office sounds in scenes of two minutes."""

from __future__ import annotations

import json

from otoscope.datasets.base import register
from otoscope.datasets.catalog._declaration import Declaration, Download
from otoscope.datasets.catalog._named import NamedDataset
from otoscope.datasets.sources import AudioFile, Length, Row, Rows, read_table
from otoscope.datasets.sources.splits import SPLIT_OF_PART
from otoscope.types import Event


@register("dcase2016-task2")
class Dcase2016Task2(NamedDataset):
    """DCASE 2016 task 2 in the partition of HEAR 2021: office sounds of 11 classes, with events.

    Parameters
    ----------
    root, on_bad : as in `NamedDataset`.
    window : duration in seconds of the windows into which the scenes of 120 s are cut, since almost every scene has all
        classes; 0 for whole scenes.
    """

    kind = "multi-label"
    declaration = Declaration(
        folders=(
            "hear-2021.0.6/tasks/dcase2016_task2-hear2021-full",
            "tasks/dcase2016_task2-hear2021-full",
            "dcase2016_task2-hear2021-full",
            "dcase2016_task2",
        ),
        markers=("task_metadata.json",),
        layout={
            "task_metadata.json": "about the task",
            "labelvocabulary.csv": "the 11 classes in their order",
            "train.json": "events in ms of each file; also valid.json and test.json",
            "48000/train/": "the files of each split",
        },
        homepage="https://zenodo.org/record/5885750",
        licence="for research; not stated in the archive",
        citation="A. Mesaros et al. Detection and Classification of Acoustic Scenes and Events: Outcome of the DCASE "
        "2016 Challenge. IEEE/ACM TASLP, 2018. Partition: J. Turian et al. HEAR, PMLR 176, 2022.",
        clips={},
        rates=(48000,),
        faults=(
            "HEAR mixed the development and evaluation recordings and partitioned them again: scores of the challenge "
            "are not comparable.",
            "HEAR scores onsets within 200 ms after a search of post-processing; clip scores of windows are another "
            "metric.",
        ),
        unverified=(
            "The number of files of each split, and the name of the first folder in the archive.",
            "No checksum of the archive is published.",
        ),
        downloads=(
            Download(
                "https://zenodo.org/record/5885750/files/hear2021-dcase2016_task2-hear2021-full-48000.tar.gz?download=1"
            ),
        ),
    )

    def __init__(self, *, root: str | None = None, window: float = 10.0, on_bad: str = "fail") -> None:
        super().__init__(root=root, on_bad=on_bad)
        self.length = Length(window=window, hop=window) if window else Length()

    def list_rows(self) -> Rows:
        """List the scenes of the three JSON files, as `NamedDataset.list_rows`."""
        table = read_table(self.folder / "labelvocabulary.csv")
        self.classes = tuple(label for _, label in sorted(zip(map(int, table["idx"]), table["label"], strict=True)))
        rows = []
        for part, split in SPLIT_OF_PART.items():
            scenes = json.loads((self.folder / f"{part}.json").read_text(encoding="utf-8"))
            for name, listed in scenes.items():
                events = tuple(Event(e["start"] / 1000, e["end"] / 1000, e["label"]) for e in listed)
                labels = tuple(sorted({event.label for event in events}))
                audio = AudioFile(self.folder / "48000" / part / name)
                rows.append(Row(f"{part}/{name}", audio, labels, split, events=events))
        return Rows.of(rows)
