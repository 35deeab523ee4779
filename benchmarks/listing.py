"""Time and memory of listing large sources: a table that names audio files, and AudioSet by its official tables.

python benchmarks/listing.py            # up to 2,000,000 clips, whose files are hard links; takes minutes
python benchmarks/listing.py --small    # tiny sizes, to check that it runs
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile

from measure import Work, extra_memory, spent
from otoscope import datasets
from otoscope.datasets.catalog.audioset import AUDIOSET_CLASSES
from otoscope.datasets.sources import FileDataset
from otoscope.datasets.sources.scan import AudioScan
from render import command
from rows import Bytes, Seconds, Section, Target

SIZES = (20_000, 200_000, 2_000_000)
FOLDERS, LINKS = 500, 50_000
COMPARED = """\
Listing reads the table, finds the audio file of each row in the folders, and ends when task, classes, splits and the
number of clips of each split are known. No audio is read. `table` is a CSV with path, labels (one to three of 527),
split and group of each clip; `as2m` is the named data set, with the official tables and the same files. Memory is the
peak resident set minus that before, in a new process. CPU time is that of all threads."""
BOUNDS = """\
A row costs a line of the CSV reader of Python, a lookup of its file among the names of its folder, and one text in
memory for each value that is not repeated. Paths, clips and their parts are made when they are read. The memory is
mostly that of the paths, once from the table and once from the folders. Reading the audio itself is another step."""


@dataclass(frozen=True)
class Listed:
    """Time and memory of listing one source."""

    what: Annotated[str, "source"]
    clips: Annotated[int, "clips"]
    wall: Annotated[Seconds, "time"]
    cpu: Annotated[Seconds, "CPU time"]
    each: Annotated[float, "CPU time per clip, µs"]
    memory: Annotated[Bytes | None, "peak memory"]


def listing(kind: str, folder: str) -> Work:
    """Return the work that lists a source which `write` has written."""

    def table() -> dict[str, int]:
        dataset = FileDataset(path=f"{folder}/table.csv")
        vars(dataset)["audio_scan"] = AudioScan(contents={})  # as after the step that reads audio
        return {split: len(dataset.clips(split)) for split in dataset.splits}

    def as2m() -> dict[str, int]:
        dataset = datasets.create("as2m", root=folder)
        return {split: len(dataset.clips(split)) for split in dataset.splits}

    return table if kind == "table" else as2m


def write(folder: Path, clips: int) -> None:
    """Write tables with this many clips, and their files as hard links to few short ones."""
    names, rng = list(AUDIOSET_CLASSES), np.random.default_rng(0)
    labels = rng.integers(0, len(names), (clips, 3))
    counts = rng.integers(1, 4, clips)
    for number in range(FOLDERS):
        (folder / "audio" / f"{number:03d}").mkdir(parents=True)
    with (
        open(folder / "table.csv", "w", encoding="utf-8") as table,
        open(folder / "unbalanced_train_segments.csv", "w", encoding="utf-8") as train,
        open(folder / "eval_segments.csv", "w", encoding="utf-8") as test,
    ):
        table.write("path,labels,split,site\n")
        for number, (path, several, count) in enumerate(zip(_files(folder, clips), labels, counts, strict=True)):
            mids = list(dict.fromkeys(names[label] for label in several[:count]))
            split = "test" if number % 100 == 0 else "validation" if number % 101 == 0 else "train"
            table.write(f"{path},{';'.join(mids)},{split},site {number % 1000}\n")
            segments = test if number % 100 == 0 else train
            segments.write(f'{path[-15:-4]}, 30.000, 40.000, "{",".join(mids)}"\n')
    (folder / "balanced_train_segments.csv").write_text("# no clips\n", encoding="utf-8")


def _files(folder: Path, clips: int) -> Iterator[str]:
    """Make the files; yield their paths relative to the folder."""
    for number in range(clips):
        if number % LINKS == 0:
            source = folder / "audio" / "000" / f".{number}.wav"
            soundfile.write(source, np.random.default_rng(number).uniform(-0.5, 0.5, 800), 8000)
        path = f"audio/{number % FOLDERS:03d}/Y{number:011x}.wav"
        os.link(source, folder / path)
        yield path


def measured(sizes: tuple[int, ...]) -> Iterator[Listed]:
    """List sources of each size, by each kind."""
    for clips in sizes:
        with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as few:
            write(Path(name), clips)
            write(Path(few), 200)
            for kind in ("table", "as2m"):
                options = {"kind": kind, "folder": name}
                memory = extra_memory("listing", "listing", [options], warm={"kind": "table", "folder": few})[0]
                time = spent(listing(kind, name))
                peak = None if memory is None else memory[0]
                yield Listed(kind, clips, Seconds(time.wall), Seconds(time.cpu), 1e6 * time.cpu / clips, peak)


def sections(small: bool) -> list[Section]:
    """Measure time and memory of listing."""
    rows = list(measured((1000,) if small else SIZES))
    targets = [Target(f"`{row.what}`, {row.clips:,} clips: CPU time in s", 10.0, row.cpu, True) for row in rows[-2:-1]]
    targets += [
        Target(f"`{row.what}`, {row.clips:,} clips: memory in GiB", 1.5, row.memory and row.memory / 2**30, True)
        for row in rows[-2:]
    ]
    return [Section("13. Listing large sources", COMPARED, [rows], BOUNDS, targets)]


if __name__ == "__main__":
    command(sections, __doc__, None)
