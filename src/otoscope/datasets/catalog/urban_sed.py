"""URBAN-SED 2.0 (Salamon et al., WASPAA 2017)."""

from __future__ import annotations

from otoscope.datasets.base import register
from otoscope.datasets.catalog._declaration import Declaration, Download
from otoscope.datasets.catalog._named import NamedDataset, read_events
from otoscope.datasets.catalog.urbansound8k import CLASSES
from otoscope.datasets.sources import AudioFile, Row, Rows


@register("urban-sed")
class UrbanSed(NamedDataset):
    """URBAN-SED: 10,000 synthetic scenes of 10 s with 1 to 9 sound events of 10 classes."""

    kind = "multi-label"
    classes = CLASSES
    declaration = Declaration(
        folders=("URBAN-SED_v2.0.0", "URBAN-SED", "urban-sed"),
        markers=("annotations/train",),
        layout={
            "annotations/train/soundscape_train_bimodal0.txt": "events: start, end and label, divided by tabs",
            "audio/train/soundscape_train_bimodal0.wav": "the files; both in the folders train, validate and test",
        },
        homepage="http://urbansed.weebly.com",
        licence="CC-BY-4.0",
        citation="J. Salamon, D. MacConnell, M. Cartwright, P. Li and J. P. Bello. Scaper: A Library for Soundscape "
        "Synthesis and Augmentation. WASPAA, 2017.",
        clips={"train": 6000, "validation": 2000, "test": 2000},
        size="6 GB",
        rates=(44100,),
        seconds=(10, 10),
        origins=("Freesound", "UrbanSound8K"),
        faults=(
            "It is made of UrbanSound8K (folds 1-6 in train, 7-8 in validate, 9-10 in test): do not train on one of "
            "them and evaluate on the other.",
            "Durations in the values of the JAMS files are those before time stretching; the text files, which are "
            "read here, have the right ones.",
        ),
        unverified=("The size of the download.",),
        downloads=(
            Download(
                "https://zenodo.org/record/1324404/files/URBAN-SED_v2.0.0.tar.gz?download=1",
                "a2d24a2148ece7c021fcc079ee87c2dc",
            ),
        ),
    )

    def list_rows(self) -> Rows:
        """List the scenes with the events of their text files, as `NamedDataset.list_rows`."""
        rows = []
        for folder, split in (("train", "train"), ("validate", "validation"), ("test", "test")):
            for table in sorted((self.folder / "annotations" / folder).glob("*.txt")):
                events = read_events(table)
                audio = AudioFile(self.folder / "audio" / folder / f"{table.stem}.wav")
                labels = tuple(sorted({event.label for event in events}))
                rows.append(Row(table.stem, audio, labels, split, events=events))
        return Rows.of(rows)
