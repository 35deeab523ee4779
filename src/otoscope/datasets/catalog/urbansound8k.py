"""UrbanSound8K (Salamon et al., ACM Multimedia 2014)."""

from __future__ import annotations

from otoscope.datasets.base import register
from otoscope.datasets.catalog._declaration import Declaration, Download
from otoscope.datasets.catalog._named import FoldedDataset, stems, words
from otoscope.datasets.sources import AudioFiles, Rows, one_each, read_table

CLASSES = words(
    "air_conditioner car_horn children_playing dog_bark drilling engine_idling gun_shot jackhammer siren street_music"
)


@register("urbansound8k")
class UrbanSound8k(FoldedDataset):
    """UrbanSound8K: 8,732 urban sounds of at most 4 s, 10 classes, 10 folds."""

    declared_folds = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    kind = "multi-class"
    classes = CLASSES
    declaration = Declaration(
        folders=("UrbanSound8K", "urbansound8k"),
        markers=("metadata/UrbanSound8K.csv",),
        layout={
            "metadata/UrbanSound8K.csv": "the table",
            "audio/fold1/101415-3-0-2.wav": "8,732 files in the folders fold1 ... fold10",
        },
        homepage="https://urbansounddataset.weebly.com/urbansound8k.html",
        licence="CC-BY-NC 3.0",
        citation="J. Salamon, C. Jacoby and J. P. Bello. A Dataset and Taxonomy for Urban Sound Research. "
        "ACM Multimedia, 2014.",
        clips={"all": 8732},
        manifests={"all": "a5bc9a023b129a4e"},
        size="6.0 GB",
        origins=("Freesound",),
        faults=(
            "Several clips are cut from one recording: with other splits than the official folds, clips of one "
            "recording are in both the train and the held-out split.",
            "Five recordings of Freesound, with 152 clips, are in two of the official folds.",
            "Sampling rates, bit depths and numbers of channels vary.",
            "There is no validation fold; report the mean over the ten folds.",
        ),
        unverified=("The size of the download.",),
        downloads=(
            Download(
                "https://zenodo.org/record/1203745/files/UrbanSound8K.tar.gz?download=1",
                "9aa69802bbf37fb986f71ec1483a196e",
            ),
        ),
    )

    def list_rows(self) -> Rows:
        """List the clips of the table with their official folds, as `NamedDataset.list_rows`."""
        table = read_table(self.folder / "metadata" / "UrbanSound8K.csv")
        files = [f"fold{fold}/{file}" for fold, file in zip(table["fold"], table["slice_file_name"], strict=True)]
        return Rows(
            ids=stems(table["slice_file_name"]),
            audio=AudioFiles(self.folder / "audio", files),
            labels=one_each(table["class"]),
            folds=table["fold"],
            groups=one_each(table["fsID"]),
        )
