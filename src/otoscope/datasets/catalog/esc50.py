"""ESC-50 and ESC-10 (Piczak, ACM Multimedia 2015)."""

from __future__ import annotations

from otoscope.datasets.base import register
from otoscope.datasets.catalog._declaration import Declaration, Download
from otoscope.datasets.catalog._named import FoldedDataset, shipped, stems, words
from otoscope.datasets.sources import AudioFile, AudioFiles, Row, Rows, one_each, read_table

CLASSES = words(
    "dog rooster pig cow frog cat hen insects sheep crow rain sea_waves crackling_fire crickets chirping_birds "
    "water_drops wind pouring_water toilet_flush thunderstorm crying_baby sneezing clapping breathing coughing "
    "footsteps laughing brushing_teeth snoring drinking_sipping door_wood_knock mouse_click keyboard_typing "
    "door_wood_creaks can_opening washing_machine vacuum_cleaner clock_alarm clock_tick glass_breaking helicopter "
    "chainsaw siren car_horn engine train church_bells airplane fireworks hand_saw"
)
_TEN = (0, 1, 10, 11, 12, 20, 21, 38, 40, 41)
_FOLDERS: dict[str, list[str]] = shipped("esc10")
"""The clips of ESC-10 in each folder of its former repository, without suffix."""
_NUMBERS = (0, 10, 11, 20, 38, 21, 40, 41, 1, 12)
"""Numbers in ESC-50 of the classes of these folders, in their order."""

_FAULTS = (
    "There is no validation fold; results that are chosen on the held-out fold are too high.",
    "Four recordings of Freesound, with nine clips, are in several folds.",
    "The recordings overlap with FSD50K and with the data of encoders that were trained on Freesound.",
)
_ZIP = Download("https://github.com/karolpiczak/ESC-50/archive/refs/heads/master.zip")


@register("esc50")
class Esc50(FoldedDataset):
    """ESC-50: 2,000 environmental sounds of 5 s, 50 classes, 5 folds."""

    declared_folds = (1, 2, 3, 4, 5)
    kind = "multi-class"
    classes = CLASSES
    declaration = Declaration(
        folders=("ESC-50", "ESC-50-master", "esc50"),
        markers=("meta/esc50.csv",),
        layout={"meta/esc50.csv": "the table", "audio/1-100032-A-0.wav": "2,000 files {fold}-{source}-{take}-{class}"},
        homepage="https://github.com/karolpiczak/ESC-50",
        licence="CC-BY-NC 3.0 (the clips of ESC-10: CC-BY)",
        citation="K. J. Piczak. ESC: Dataset for Environmental Sound Classification. ACM Multimedia, 2015.",
        clips={"all": 2000},
        manifests={"all": "7151b0f4c2440a64"},
        size="600 MB",
        rates=(44100,),
        seconds=(5, 5),
        origins=("Freesound",),
        faults=_FAULTS,
        unverified=("No checksum of the archive is published: it is made by GitHub.",),
        downloads=(_ZIP,),
    )

    def list_rows(self) -> Rows:
        """List the clips of `meta/esc50.csv`, as `NamedDataset.list_rows`."""
        table = read_table(self.folder / "meta" / "esc50.csv")
        return Rows(
            ids=stems(table["filename"]),
            audio=AudioFiles(self.folder / "audio", table["filename"]),
            labels=one_each(table["category"]),
            folds=table["fold"],
            groups=one_each(table["src_file"]),
        )


@register("esc10")
class Esc10(Esc50):
    """ESC-10: the 400 clips of ESC-50 in 10 classes with a free licence, 5 folds."""

    classes = tuple(CLASSES[number] for number in _TEN)
    declaration = Declaration(
        folders=("ESC-10", "ESC-10-master", "ESC-50", "ESC-50-master", "esc10", "esc50"),
        markers=("001 - Dog bark", "meta/esc50.csv"),
        layout={"001 - Dog bark/1-100032-A.ogg": "10 folders with 40 files {fold}-{source}-{take}; or ESC-50"},
        homepage="https://github.com/karolpiczak/ESC-50",
        licence="CC-BY",
        citation=Esc50.declaration.citation,
        clips={"all": 400},
        manifests={"all": "3a59be3ece36788b"},
        size="600 MB as a part of ESC-50",
        rates=(44100,),
        seconds=(5, 5),
        origins=("Freesound",),
        faults=(
            *_FAULTS[:1],
            "The files of the former repository ESC-10 are lossy (Ogg Vorbis), and six of them last 3.6 to 7.2 s: the "
            "results differ slightly from those with the files of ESC-50.",
        ),
        downloads=(_ZIP,),
    )

    def list_rows(self) -> Rows:
        """List the clips of the folder of ESC-50, or of the repository ESC-10, as `NamedDataset.list_rows`."""
        if (self.folder / "meta" / "esc50.csv").is_file():
            rows = super().list_rows()
            return rows.take([row for row, label in enumerate(rows.labels or ()) if label[0] in self.classes])
        clips = []
        for (folder, names), number in zip(_FOLDERS.items(), _NUMBERS, strict=True):
            for name in names:
                fold, source, take = name.split("-")
                place = AudioFile(self.folder / folder / f"{name}.ogg")
                clips.append(Row(f"{fold}-{source}-{take}-{number}", place, (CLASSES[number],), "", fold, (source,)))
        return Rows.of(clips)
