"""AudioSet (Gemmeke et al., ICASSP 2017): the balanced part, and both train parts together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from otoscope.datasets.base import register
from otoscope.datasets.catalog._declaration import Declaration
from otoscope.datasets.catalog._named import NamedDataset, shipped
from otoscope.datasets.sources import (
    AudioFile,
    AudioFiles,
    AudioTable,
    Column,
    Rows,
    list_audio,
    list_parquet,
    read_table,
)
from otoscope.datasets.sources.audio import Audio

AUDIOSET_CLASSES: dict[str, str] = shipped("audioset")
"""The display name of each class by its identifier, in the order of class_labels_indices.csv."""

_FAULTS = (
    "There is no validation split: it is cut from the train split.",
    "Videos disappear: every copy has another part, so results of two copies are comparable on common clips only.",
    "Some code sorts the classes by their names; here they have the order of class_labels_indices.csv.",
    "Copies contain empty or damaged files, such as mW3S0u8bj58 (evaluation) and wM5Qf5xXT8w (unbalanced).",
)
_LAYOUT = {
    "eval_segments.csv": "the table of the test split",
    "balanced_train_segments.csv": "the table of the balanced train clips",
    "audio/--4gqARaEJE.wav": "the files, in any subfolders and formats; or Parquet files with video_id and audio",
}


class _AudioSet(NamedDataset):
    """Clips of AudioSet whose files, or rows in Parquet files, have the identifier of their video."""

    kind = "multi-label"
    classes = tuple(AUDIOSET_CLASSES.values())
    complete = False
    tables: tuple[tuple[str, str], ...]

    def list_rows(self) -> Rows:
        """List the segments of the official tables, as `NamedDataset.list_rows`."""
        ids: list[str] = []
        labels: list[tuple[str, ...]] = []
        splits: list[str] = []
        known: dict[str, tuple[str, ...]] = {}
        for split, name in self.tables:
            videos, mids = _segments(self.folder / name)
            known |= {text: _labels(self.folder / name, text) for text in set(mids) - known.keys()}
            ids += videos
            labels += map(known.__getitem__, mids)
            splits += [split] * len(videos)
        return Rows(ids, self._place(ids), labels, splits)

    @cached_property
    def missing_rows(self) -> list[int]:
        """The numbers of the segments without audio."""
        return [number for number, id in enumerate(self.listed.ids) if id not in self._present]

    def _place(self, ids: Sequence[str]) -> Sequence[Audio]:
        """The audio of each video: a file in `folder`, or a cell of a Parquet file."""
        if self._packed is None:
            return AudioFiles(self.folder, [self._present.get(id) or f"audio/{id}.wav" for id in ids])
        cells, missing = self._packed.audio, self.folder / "audio"
        rows = {video: row for row, video in enumerate(self._packed.table["video_id"])}

        def cell(row: int) -> Audio:
            return cells[rows[ids[row]]] if ids[row] in rows else AudioFile(missing / f"{ids[row]}.wav")

        return Column(len(ids), cell)

    @cached_property
    def _packed(self) -> AudioTable | None:
        """The Parquet files with audio; None for a copy in audio files."""
        packed = sorted(self.folder.rglob("*.parquet"))
        return list_parquet(packed, "audio") if packed else None

    @cached_property
    def _present(self) -> dict[str, str]:
        """The file of each video that is on this machine, relative to `folder`; "" for one in a Parquet file."""
        if self._packed is not None:
            return dict.fromkeys(self._packed.table["video_id"], "")
        names = list_audio(self.folder)
        return {video_id(name[name.rfind("/") + 1 : name.rfind(".")]): name for name in names}


def video_id(stem: str) -> str:
    """The identifier of the video in the name of a file: alone, with a leading Y, or with times behind it.

    >>> video_id("--4gqARaEJE"), video_id("Y--4gqARaEJE"), video_id("--4gqARaEJE_0.000"), video_id("Y--4gqARaEJE_0_10")
    ('--4gqARaEJE', '--4gqARaEJE', '--4gqARaEJE', '--4gqARaEJE')
    """
    if len(stem) > 11 and stem[0] == "Y" and stem[12:13] in ("", "_", "."):
        return stem[1:12]
    return stem[:11]


def _labels(table: Path, text: str) -> tuple[str, ...]:
    """The names of classes that are separated by commas."""
    mids = text.split(",")
    for mid in mids:
        if mid not in AUDIOSET_CLASSES:
            raise ValueError(f"{table}: {mid!r} is no class of AudioSet; download the table again")
    return tuple(AUDIOSET_CLASSES[mid] for mid in mids)


def _segments(path: Path) -> tuple[list[str], list[str]]:
    """The videos and the identifiers of the classes of all segments; the first lines are comments (#) or a header."""
    if not path.is_file():
        raise FileNotFoundError(f"no table at {path}; download it from https://research.google.com/audioset/")
    table = read_table(path, header=("video", "start", "end", "mids"))
    videos = enumerate(table["video"])
    first = next((row for row, video in videos if not video.startswith("#") and video != "YTID"), len(table))
    return table["video"][first:], table["mids"][first:]


@register("as20k")
class As20k(_AudioSet):
    """AudioSet-20k: 22,160 balanced train and 20,371 evaluation clips of 10 s, 527 classes, multi-label."""

    tables = (("train", "balanced_train_segments.csv"), ("test", "eval_segments.csv"))
    declaration = Declaration(
        folders=("AudioSet", "audioset"),
        markers=("eval_segments.csv",),
        layout=_LAYOUT,
        homepage="https://research.google.com/audioset/",
        licence="CC-BY-4.0 for the labels; the audio is from YouTube and must not be distributed",
        citation="J. F. Gemmeke et al. Audio Set: An ontology and human-labeled dataset for audio events. "
        "ICASSP, 2017.",
        clips={"train": 22160, "test": 20371},
        manifests={"train": "f46bbfec466ecfdd", "test": "943791ffbaca63d3"},
        seconds=(0, 10.1),
        origins=("AudioSet",),
        faults=_FAULTS,
        unverified=(
            "Whether the two named damaged files are damaged in every copy.",
            "The exact number of unbalanced clips.",
        ),
        instructions="The tables are at https://research.google.com/audioset/download.html. The clips are cut from "
        "YouTube; a crawl of March 2023 with 18,685 and 17,142 clips is agkphysics/AudioSet at Hugging Face (Parquet).",
    )


@register("as2m")
class As2m(_AudioSet):
    """AudioSet-2M: 2,063,949 train clips (balanced and unbalanced) and 20,371 evaluation clips, 527 classes."""

    tables = (("train", "unbalanced_train_segments.csv"), *As20k.tables)
    declaration = replace(
        As20k.declaration,
        markers=("unbalanced_train_segments.csv",),
        layout={"unbalanced_train_segments.csv": "the table of the unbalanced train clips", **_LAYOUT},
        clips={"train": 2041789 + 22160, "test": 20371},
        manifests={"test": As20k.declaration.manifests["test"]},
        faults=(*_FAULTS, "Classes are so unbalanced that most work draws 200,000 weighted clips for each epoch."),
    )
