"""VoxCeleb1 as an identification task (Nagrani et al., Interspeech 2017)."""

from __future__ import annotations

from otoscope.datasets.base import register
from otoscope.datasets.catalog._declaration import Declaration
from otoscope.datasets.catalog._named import NamedDataset
from otoscope.datasets.sources import AudioFiles, Rows, one_each

_SPLITS = {"1": "train", "2": "validation", "3": "test"}


@register("voxceleb1-id")
class VoxCeleb1Id(NamedDataset):
    """VoxCeleb1, identification: 153,516 utterances of 1,251 speakers, official split by video."""

    kind = "multi-class"
    complete = False
    declaration = Declaration(
        folders=("VoxCeleb1", "voxceleb1", "vox1"),
        markers=("iden_split.txt",),
        layout={"iden_split.txt": "the table", "wav/id10001/Y8hIVOBuels/00001.wav": "the files"},
        homepage="https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html",
        licence="CC-BY-SA 4.0 for the metadata; the copyright of the videos remains with their owners",
        citation="A. Nagrani, J. S. Chung and A. Zisserman. VoxCeleb: a large-scale speaker identification dataset. "
        "Interspeech, 2017.",
        clips={"train": 138361, "validation": 6904, "test": 8251},
        size="39 GB",
        rates=(16000,),
        origins=("VoxCeleb1",),
        faults=(
            "All splits have the same speakers; the videos differ. The verification task has other splits and must not "
            "be mixed with this one.",
            "The files are given out by form only, and copies differ.",
        ),
        unverified=("The licence of the metadata.", "The size of the download."),
        instructions="Ask for access at the home page; unpack the parts dev and test into one folder wav. The table is "
        "https://www.robots.ox.ac.uk/~vgg/data/voxceleb/meta/iden_split.txt.",
    )

    def list_rows(self) -> Rows:
        """List the utterances of the table; the group of an utterance is its video."""
        lines = (self.folder / "iden_split.txt").read_text(encoding="utf-8").split("\n")
        pairs = [line.split() for line in lines if line.strip()]
        files = [file for _, file in pairs]
        return Rows(
            ids=[file.removesuffix(".wav") for file in files],
            audio=AudioFiles(self.folder / "wav", files),
            labels=one_each([file.partition("/")[0] for file in files]),
            splits=[_SPLITS[number] for number, _ in pairs],
            groups=one_each([file.rpartition("/")[0] for file in files]),
        )
