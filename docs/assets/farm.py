"""Write the examples of docs/data.md into a folder: one set of recordings in every layout that otoscope reads.

    python docs/assets/farm.py FOLDER

The recordings are 90 of those that ship with otoscope, with five classes; their licences are in
src/otoscope/datasets/scenes_data/ATTRIBUTION.md.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import soundfile

import otoscope

DATA = Path(otoscope.__file__).parent / "datasets" / "scenes_data"
CLASSES = ("cattle", "chicken", "horse", "pig", "sheep")
LONG = 5  # recordings with events
SILENCE = 0.5  # seconds before every event


def main(folder: Path) -> None:
    """Write all examples."""
    listed = json.loads((DATA / "recordings.json").read_text(encoding="utf-8"))
    rows = [row for row in listed if row["class"] in CLASSES]
    for row in rows:
        target = folder / "farm" / row["class"] / f"{row['id']}.ogg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DATA / row["class"] / target.name, target)
    write_table(folder, rows)
    write_events(folder, rows)
    write_tars(folder, rows)
    write_parquet(folder, rows)
    write_hear(folder, rows)


def write_table(folder: Path, rows: list[dict[str, str]]) -> None:
    """A table as Excel writes it in many countries: a byte order mark, semicolons, and one label with a capital."""
    lines = [[f"{row['class']}/{row['id']}", row["class"], row["split"], row["group"]] for row in rows]
    lines[0][1] = lines[0][1].capitalize()
    with (folder / "farm.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=";").writerows([["path", "animal", "split", "group"], *lines])


def write_events(folder: Path, rows: list[dict[str, str]]) -> None:
    """Long recordings of one event after another, with a table of events, Audacity labels, Raven tables and JAMS."""
    events = []
    for number in range(LONG):
        onset, parts = SILENCE, [np.zeros(round(SILENCE * 16000), np.float32)]
        for row in rows[number::LONG]:
            wave, rate = soundfile.read(DATA / row["class"] / f"{row['id']}.ogg", dtype="float32")
            offset = onset + len(wave) / rate
            events.append((f"day-{number}.flac", round(onset, 3), round(offset, 3), row["class"]))
            parts += [wave, np.zeros(round(SILENCE * rate), np.float32)]
            onset = offset + SILENCE
        for layout in ("days", "audacity", "raven", "jams"):
            (folder / layout).mkdir(exist_ok=True)
            soundfile.write(folder / layout / f"day-{number}.flac", np.concatenate(parts), 16000)
        own = [event[1:] for event in events if event[0] == f"day-{number}.flac"]
        labels = "".join(f"{a}\t{b}\t{label}\n" for a, b, label in own)
        (folder / "audacity" / f"day-{number}.txt").write_text(labels)
        head = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies\n"
        lines = "".join(
            f"{i}\tSpectrogram 1\t1\t{a}\t{b}\t0\t8000\t{label}\n" for i, (a, b, label) in enumerate(own, 1)
        )
        (folder / "raven" / f"day-{number}.Table.1.selections.txt").write_text(head + lines)
        data = [{"time": a, "duration": round(b - a, 3), "value": label, "confidence": None} for a, b, label in own]
        jams = {"annotations": [{"namespace": "segment_open", "data": data}], "file_metadata": {}}
        (folder / "jams" / f"day-{number}.jams").write_text(json.dumps(jams))
    with (folder / "days" / "events.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "onset", "offset", "label"], *events])


def write_tars(folder: Path, rows: list[dict[str, str]]) -> None:
    """A tar for each split; every recording has a JSON file with the same stem."""
    (folder / "tars").mkdir(exist_ok=True)
    for split in ("train", "validation", "test"):
        with tarfile.open(folder / "tars" / f"{split}-000000.tar", "w") as tar:
            for row in (row for row in rows if row["split"] == split):
                audio = (DATA / row["class"] / f"{row['id']}.ogg").read_bytes()
                for suffix, content in (("ogg", audio), ("json", json.dumps({"label": row["class"]}).encode())):
                    info = tarfile.TarInfo(f"{row['id']}.{suffix}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))


def write_parquet(folder: Path, rows: list[dict[str, str]]) -> None:
    """Parquet files as Hugging Face writes them."""
    (folder / "hub" / "data").mkdir(parents=True, exist_ok=True)
    info = {"info": {"features": {"label": {"names": list(CLASSES), "_type": "ClassLabel"}}}}
    for split in ("train", "validation", "test"):
        own = [row for row in rows if row["split"] == split]
        files = [(f"{row['id']}.ogg", DATA / row["class"] / f"{row['id']}.ogg") for row in own]
        audio = [{"bytes": file.read_bytes(), "path": name} for name, file in files]
        table = pyarrow.table({"audio": audio, "label": [CLASSES.index(row["class"]) for row in own]})
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
        pyarrow.parquet.write_table(table, folder / "hub" / "data" / f"{split}-00000-of-00001.parquet")


def write_hear(folder: Path, rows: list[dict[str, str]]) -> None:
    """The folder of a task of HEAR 2021."""
    hear = folder / "hear"
    for name, split in (("train", "train"), ("valid", "validation"), ("test", "test")):
        own = [row for row in rows if row["split"] == split]
        (hear / "16000" / name).mkdir(parents=True, exist_ok=True)
        for row in own:
            wave, rate = soundfile.read(DATA / row["class"] / f"{row['id']}.ogg")
            soundfile.write(hear / "16000" / name / f"{row['id']}.wav", wave, rate)
        (hear / f"{name}.json").write_text(json.dumps({f"{row['id']}.wav": [row["class"]] for row in own}))
    lines = "".join(f"{number},{label}\n" for number, label in enumerate(CLASSES))
    (hear / "labelvocabulary.csv").write_text("idx,label\n" + lines)
    (hear / "task_metadata.json").write_text(json.dumps({"task_name": "farm", "prediction_type": "multiclass"}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
