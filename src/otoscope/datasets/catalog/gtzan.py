"""GTZAN (Tzanetakis and Cook, 2002) with the fault-filtered split."""

from __future__ import annotations

from otoscope.datasets.base import register
from otoscope.datasets.catalog._declaration import Declaration
from otoscope.datasets.catalog._named import NamedDataset, shipped, words
from otoscope.datasets.sources import AudioFile, Row, Rows

CLASSES = words("blues classical country disco hiphop jazz metal pop reggae rock")


@register("gtzan")
class Gtzan(NamedDataset):
    """GTZAN: 930 pieces of music of 30 s in 10 genres, fault-filtered split 443 / 197 / 290."""

    kind = "multi-class"
    classes = CLASSES
    declaration = Declaration(
        folders=("genres", "genres_original", "GTZAN/genres", "gtzan", "Data/genres_original"),
        markers=("blues/blues.00000.wav", "blues/blues.00000.au"),
        layout={"blues/blues.00000.wav": "10 folders with 100 files (.wav or .au)"},
        homepage="http://marsyas.info/downloads/datasets.html",
        licence="not stated",
        citation="G. Tzanetakis and P. Cook. Musical genre classification of audio signals. IEEE Transactions on "
        "Speech and Audio Processing, 2002. Faults: B. L. Sturm, arXiv 1306.1461. Split: C. Kereliuk, B. L. Sturm and "
        "J. Larsen, 2015.",
        clips={"train": 443, "validation": 197, "test": 290},
        manifests={"train": "b7d93e2a038291c7", "validation": "f6f5e8767f20dade", "test": "f11bbe9802fa379e"},
        size="1.2 GB",
        rates=(22050,),
        seconds=(29.5, 31),
        faults=(
            "Of the 1,000 pieces, 70 are left out by the split: duplicates, wrong labels and distortions.",
            "jazz.00054, which is in the train split, cannot be read in common copies (genres_original).",
            "Artists are in one split only by the fault-filtered split; random splits leak.",
        ),
        unverified=("The shortest and longest duration.", "The size of the download."),
        instructions="The former address of genres.tar.gz does not answer any more; copies are on Kaggle "
        "(genres_original) and Hugging Face. The licence of the music is not stated.",
    )

    def list_rows(self) -> Rows:
        """List the pieces of the fault-filtered split, as `NamedDataset.list_rows`."""
        suffix = ".au" if (self.folder / "blues" / "blues.00000.au").is_file() else ".wav"
        rows = []
        for part, numbers in shipped("gtzan_filtered").items():
            split, genre = part.split("/")
            for number in numbers:
                name = f"{genre}.{number:05d}"
                rows.append(Row(name, AudioFile(self.folder / genre / f"{name}{suffix}"), (genre,), split))
        return Rows.of(rows)
