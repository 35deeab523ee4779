"""FSD50K (Fonseca et al., IEEE/ACM TASLP 2022)."""

from __future__ import annotations

from otoscope.datasets.base import register
from otoscope.datasets.catalog._declaration import Declaration, Download
from otoscope.datasets.catalog._named import NamedDataset, shipped
from otoscope.datasets.sources import AudioFile, Row, Rows, read_table, several

_MD5 = {
    "FSD50K.dev_audio.z01": "faa7cf4cc076fc34a44a479a5ed862a3",
    "FSD50K.dev_audio.z02": "8f9b66153e68571164fb1315d00bc7bc",
    "FSD50K.dev_audio.z03": "1196ef47d267a993d30fa98af54b7159",
    "FSD50K.dev_audio.z04": "d088ac4e11ba53daf9f7574c11cccac9",
    "FSD50K.dev_audio.z05": "81356521aa159accd3c35de22da28c7f",
    "FSD50K.dev_audio.zip": "c480d119b8f7a7e32fdb58f3ea4d6c5a",
    "FSD50K.eval_audio.z01": "3090670eaeecc013ca1ff84fe4442aeb",
    "FSD50K.eval_audio.zip": "6fa47636c3a3ad5c7dfeba99f2637982",
    "FSD50K.ground_truth.zip": "ca27382c195e37d2269c4c866dd73485",
}
_PARTS = {"dev": "FSD50K.dev_audio", "eval": "FSD50K.eval_audio"}


@register("fsd50k")
class Fsd50k(NamedDataset):
    """FSD50K: 51,197 clips of Freesound, 0.3 to 30 s, 200 classes of the AudioSet ontology, multi-label."""

    kind = "multi-label"
    classes = tuple(shipped("fsd50k")["classes"])
    declaration = Declaration(
        folders=("FSD50K", "fsd50k"),
        markers=("FSD50K.ground_truth/dev.csv",),
        layout={
            "FSD50K.ground_truth/dev.csv": "the table of the train and validation splits",
            "FSD50K.ground_truth/eval.csv": "the table of the test split",
            "FSD50K.dev_audio/64760.wav": "40,966 files",
            "FSD50K.eval_audio/37199.wav": "10,231 files",
        },
        homepage="https://zenodo.org/record/4060432",
        licence="CC-BY-4.0; each clip has its own: CC0, CC-BY, CC-BY-NC or CC Sampling+",
        citation="E. Fonseca, X. Favory, J. Pons, F. Font and X. Serra. FSD50K: an Open Dataset of Human-Labeled Sound "
        "Events. IEEE/ACM TASLP, 2022.",
        clips={"train": 36796, "validation": 4170, "test": 10231},
        size="24 GB",
        rates=(44100,),
        seconds=(0.3, 30),
        origins=("Freesound", "FSD50K"),
        faults=(
            "Labels are propagated to the ancestors (144 leaves and 56 others), so mAP counts both.",
            "Clips last 0.3 to 30 s: the length policy changes the score.",
            "The archives are multi-part: join them with `zip -s 0 FSD50K.dev_audio.zip --out all.zip`.",
            "The recordings overlap with those of encoders that were trained on Freesound.",
        ),
        unverified=("The size of the download.",),
        downloads=tuple(
            Download(
                f"https://zenodo.org/record/4060432/files/{name}?download=1", md5, "FSD50K", name.endswith("truth.zip")
            )
            for name, md5 in _MD5.items()
        ),
    )

    def list_rows(self) -> Rows:
        """List the clips of both tables, as `NamedDataset.list_rows`."""
        rows = []
        for part, audio in _PARTS.items():
            table = read_table(self.folder / "FSD50K.ground_truth" / f"{part}.csv")
            splits = table["split"] if part == "dev" else ["test"] * len(table)
            for name, labels, split in zip(table["fname"], several(table["labels"], ","), splits, strict=True):
                place = AudioFile(self.folder / audio / f"{name}.wav")
                rows.append(Row(name, place, labels, "validation" if split == "val" else split))
        return Rows.of(rows)
