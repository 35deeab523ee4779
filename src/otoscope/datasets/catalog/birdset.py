"""BirdSet (Rauch et al., ICLR 2025): recordings of Xeno-Canto for training, soundscapes for evaluation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from otoscope.datasets.base import register
from otoscope.datasets.catalog._declaration import Declaration
from otoscope.datasets.catalog._named import NamedDataset, shipped
from otoscope.datasets.sources import AudioFile, Row, Rows, Table, find_audio, read_table, several
from otoscope.datasets.sources.length import audio_seconds

_CLASSES: dict[str, list[str]] = shipped("birdset")
"""eBird codes of each configuration in their official order."""

_SECONDS = 5.0
_FAULTS = (
    "Many soundscape segments have no label; they count as negatives.",
    "The train recordings have noisy labels of whole recordings, of which the part with the detected event is read.",
    "POW is the validation set of the benchmark: hyperparameters of published results were chosen on it.",
    "The loading script of Hugging Face needs datasets<=3.6; here the unpacked archives are read.",
)


def _declare(config: str, train: int, test: int, size: str, *faults: str) -> Declaration:
    """The declaration of one configuration of BirdSet."""
    return Declaration(
        folders=(f"BirdSet/{config}", f"birdset/{config}", config),
        markers=(f"{config}_metadata_train.parquet",),
        layout={
            f"{config}_metadata_train.parquet": "the table of the train split",
            f"{config}_metadata_test_5s.parquet": "the table of the test split",
            "XC100001.ogg": "the content of the archives *_train_shard_*.tar.gz and *_test5s_shard_*.tar.gz, anywhere",
        },
        homepage="https://huggingface.co/datasets/DBD-research-group/BirdSet",
        licence="CC-BY-NC-4.0; each recording has its own",
        citation="L. Rauch et al. BirdSet: A Large-Scale Dataset for Audio Classification in Avian Bioacoustics. "
        "ICLR, 2025. arXiv 2403.10380.",
        clips={"train": train, "test": test},
        size=size,
        rates=(32000,),
        origins=("Xeno-Canto",),
        faults=(*faults, *_FAULTS),
        unverified=(
            "That the train tables contain detected_events and event_cluster as nested lists.",
            "BirdSet trains on up to 5 events of a recording, drawn at random; here it is the first event of the "
            "largest cluster, in the middle of 5 s.",
        ),
        instructions=f"Download {config}/ from the branch `data`: huggingface-cli download --repo-type dataset "
        f"--revision data DBD-research-group/BirdSet --include '{config}/*' --local-dir BirdSet; then unpack there: "
        "for f in *_shard_*.tar.gz; do tar xzf $f; done",
    )


class _BirdSet(NamedDataset):
    """One configuration of BirdSet."""

    kind = "multi-label"
    metric = "mAP"
    config: str
    train_table = "{0}_metadata_train.parquet"

    def list_rows(self) -> Rows:
        """List the recordings of the train table and the segments of the test table, as `NamedDataset.list_rows`."""
        train = read_table(self.folder / self.train_table.format(self.config))
        return Rows.of([*self._rows(train, "train", self.folder), *self._segments()])

    def read(self) -> Rows:
        """List the clips whose files are there; a train clip is 5 s around an event."""
        return Rows.of(map(_cut, super().read()))

    def _segments(self) -> list[Row]:
        return self._rows(read_table(self.folder / f"{self.config}_metadata_test_5s.parquet"), "test", self.folder)

    def _rows(self, table: Table, split: str, folder: Path) -> list[Row]:
        names = [name.rpartition("/")[2] for name in table["filepath"]]
        files = find_audio(names, folder).names
        labels = several(table["ebird_code_multilabel"], "")
        middles = _middles(table) if split == "train" else [0.0] * len(names)
        return [
            Row(f"{split}/{name}", AudioFile(folder / (file or name)), codes, split, start=middle)
            for name, file, codes, middle in zip(names, files, labels, middles, strict=True)
        ]


def _middles(table: Table) -> Sequence[float]:
    """The middle of the first event of the largest cluster of each recording, in seconds."""
    if "detected_events" not in table:
        return [0.0] * len(table)
    clusters = table["event_cluster"] if "event_cluster" in table else [""] * len(table)
    return [
        _middle(json.loads(events or "[]"), json.loads(numbers or "[]"))
        for events, numbers in zip(table["detected_events"], clusters, strict=True)
    ]


def _middle(events: list[list[float]], clusters: list[int]) -> float:
    """The middle of the first event of the largest cluster; cluster -1 is noise.

    >>> _middle([[0, 1], [2, 4], [8, 9]], [-1, 3, 3])
    3.0
    """
    if not events:
        return 0.0
    counts = Counter(number for number in clusters if number != -1)
    if counts:
        best = max(counts, key=lambda number: (counts[number], -number))
        events = [event for event, number in zip(events, clusters, strict=True) if number == best]
    return (events[0][0] + events[0][1]) / 2


def _cut(row: Row) -> Row:
    """A train recording longer than 5 s becomes 5 s around its event; `start` is the middle of the event."""
    if row.split != "train":
        return row
    seconds = audio_seconds(row.audio)
    start = max(0.0, min(row.start - _SECONDS / 2, seconds - _SECONDS))
    end = min(start + _SECONDS, seconds)
    whole = start == 0 and end == seconds
    return Row(row.id, row.audio, row.labels, row.split, row.fold, row.groups, start, None if whole else end)


def _configure(config: str, place: str, train: int, test: int, size: str, *faults: str) -> None:
    """Register one configuration under its name in small letters."""
    about = f"BirdSet {config}: {place}, {len(_CLASSES[config])} species; 5 s, multi-label."
    attributes = {
        "__doc__": about,
        "__module__": __name__,
        "config": config,
        "classes": tuple(_CLASSES[config]),
        "declaration": _declare(config, train, test, size, *faults),
    }
    register(config.lower())(type(config.title(), (_BirdSet,), attributes))


_configure("HSN", "High Sierras", 5460, 12000, "5.9 GB")
_configure("POW", "Powdermill Nature", 14911, 4560, "15.7 GB")
_configure("PER", "Amazon Basin", 16802, 15120, "10.5 GB")
_configure("NES", "Colombia and Costa Rica", 16117, 24480, "14.2 GB")
_configure("SNE", "Sierra Nevada", 19390, 23756, "20.8 GB")
_configure("NBP", "NIPS4BPlus", 24327, 563, "29.9 GB")
_configure("SSW", "Sapsucker Woods", 28403, 205200, "35.2 GB")
_configure(
    "UHH",
    "Hawaiian Islands",
    3626,
    36637,
    "4.9 GB",
    "The official list has 27 classes, of which 25 occur in the train recordings: the other two cannot be learnt.",
)


@register("xcm")
class Xcm(_BirdSet):
    """BirdSet XCM: 89,798 recordings of the 411 species of all test sets; evaluated on the segments of one of them.

    Parameters
    ----------
    root, on_bad : as in `NamedDataset`.
    test : the configuration whose soundscape segments are held out, such as "POW", as in the benchmark.
    """

    config = "XCM"
    train_table = "{0}_metadata.parquet"
    classes = tuple(_CLASSES["XCM"])
    declaration = Declaration(
        folders=("BirdSet/XCM", "birdset/XCM", "XCM"),
        markers=("XCM_metadata.parquet",),
        layout={
            "XCM_metadata.parquet": "the table of the train split",
            "XC100001.ogg": "the content of the archives XCM_shard_*.tar.gz, anywhere",
            "../POW/POW_metadata_test_5s.parquet": "the table of the test split; its files as in pow",
        },
        homepage="https://huggingface.co/datasets/DBD-research-group/BirdSet",
        licence="CC-BY-NC-4.0; each recording has its own",
        citation=_declare("XCM", 1, 1, "").citation,
        clips={"train": 89798, "test": 4560},
        size="89.3 GB",
        rates=(32000,),
        origins=("Xeno-Canto",),
        faults=("409 classes are published, the official list has 411.", *_FAULTS),
        unverified=_declare("XCM", 1, 1, "").unverified,
        instructions=_declare("XCM", 1, 1, "").instructions,
    )

    def __init__(self, *, root: str | None = None, test: str = "POW", on_bad: str = "fail") -> None:
        super().__init__(root=root, on_bad=on_bad)
        self._test = test

    def _segments(self) -> list[Row]:
        folder = self.folder.parent / self._test
        return self._rows(read_table(folder / f"{self._test}_metadata_test_5s.parquet"), "test", folder)
