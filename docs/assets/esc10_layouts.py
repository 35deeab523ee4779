"""Write the repository ESC-10 of 2015 in three layouts: folders of classes, a table, and the layout of ESC-50.

    git clone https://github.com/karoldvl/ESC-10 && git -C ESC-10 checkout 553c8f1
    python docs/assets/esc10_layouts.py ESC-10 FOLDER

FOLDER then contains `esc10-folders/` (one folder for each class), `esc10-table.csv` (a table of the same files), and
`ESC-50/` (the folders `audio` and `meta` of ESC-50, with these 400 clips). The audio files are copied unchanged, and
all three list them in the same order, by class and name.
"""

from __future__ import annotations

import csv
import shutil
import sys
from pathlib import Path

from otoscope.datasets.catalog.esc50 import CLASSES

NUMBERS = (0, 10, 11, 20, 38, 21, 40, 41, 1, 12)
"""Numbers in ESC-50 of the classes 001 to 010 of the repository ESC-10."""


def main(source: Path, target: Path) -> None:
    """Write the three layouts."""
    rows = []
    for path in sorted(source.glob("0*/*.ogg")):
        number = NUMBERS[int(path.parent.name[:3]) - 1]
        fold, recording, take = path.stem.split("-")
        name = f"{path.stem}-{number}.ogg"
        for copy in (target / "esc10-folders" / CLASSES[number] / path.name, target / "ESC-50" / "audio" / name):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
        rows.append(
            (name, fold, number, CLASSES[number], recording, take, f"esc10-folders/{CLASSES[number]}/{path.name}")
        )
    rows.sort(key=lambda row: row[-1])  # the order of the folders
    listed = [[file, label, fold, recording] for _, fold, _, label, recording, _, file in rows]
    write(target / "esc10-table.csv", ["file", "label", "fold", "recording_id"], listed)
    meta = [
        [name, fold, number, label, "True", recording, take] for name, fold, number, label, recording, take, _ in rows
    ]
    header = ["filename", "fold", "target", "category", "esc10", "src_file", "take"]
    write(target / "ESC-50" / "meta" / "esc50.csv", header, meta)


def write(path: Path, header: list[str], rows: list[list[object]]) -> None:
    """Write a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
