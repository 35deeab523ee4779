"""Decoding and resampling beside plain soundfile in a loop, and with workers.

python benchmarks/decoding.py            # clips of 10 s, 44.1 kHz
python benchmarks/decoding.py --small    # tiny sizes, to check that it runs
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import soxr

from measure import Work, faster, seconds, spent, spread
from otoscope import datasets
from otoscope.audio.decode import decode
from otoscope.bank._encode import Loaded, Stopwatch
from otoscope.bank._loader import loaded
from otoscope.datasets.waveform import waveform
from otoscope.types import Clip
from render import command
from rows import Faster, Seconds, Section, Spread, Target

RATE, TARGET_RATE, FILES = 44100, 16000, 24
ROUNDS = 5
FORMATS = {"WAV": "PCM_16", "FLAC": "PCM_16", "MP3": "MPEG_LAYER_III", "OGG": "VORBIS"}
COMPARED = """\
Scenes of 10 s, written at 44.1 kHz, are read one after another by one process. In
the rows `decode`, the other way is `soundfile.read(file, dtype="float32")`, and for stereo the mean of the channels.
In the rows `clip` it is followed by `soxr.resample` to 16 kHz, as otoscope does. Otoscope also checks the structure
of the file, the number of samples, NaN and, in FLAC files, the checksum of the samples. Times are CPU times.

The second table loads the same clips as the workers of `--loader-workers` do, and counts clips per second of
wall-clock time, with the factor over no worker in rounds that alternate."""
BOUNDS = """\
Decoding itself is done by libsndfile in both. What otoscope adds is one pass over the samples for NaN, a look at the
structure of the file (every page of Ogg, every frame of MP3), and for FLAC the MD5 sum, which needs a third of the
time of decoding FLAC. Resampling needs more time than decoding WAV, FLAC or MP3, and is the same in both.

Workers share nothing, so that two of them load twice as many clips as one where two cores are free. The main process
receives the samples through a pipe, which needs little time; on a machine with other work the factor is lower."""


@dataclass(frozen=True)
class Throughput:
    """Clips per second of some workers."""

    what: Annotated[str, "what"]
    workers: Annotated[int, "workers"]
    each: Annotated[Seconds, "time per clip"]
    factor: Annotated[Spread, "times faster than without workers: median (spread)"]


class Loader:
    """Loads the waveform of a clip, and no features."""

    watch = Stopwatch()

    def load(self, clip: Clip) -> Loaded:
        """Decode and resample a clip."""
        wave = waveform(clip, TARGET_RATE)
        return Loaded(len(wave), wave, None)


def write(folder: Path, kind: str, channels: int, count: int, length: float) -> list[Path]:
    """Write the first seconds of scenes in a format."""
    paths = []
    for number, scene in enumerate(datasets.create("scenes", train=count, validation=2, test=2).clips("train")):
        mono = soxr.resample(scene.audio, scene.rate, RATE)[: round(length * RATE)]
        path = folder / f"{number}-{channels}.{kind.lower()}"
        soundfile.write(path, np.stack([mono, 0.5 * mono][:channels], 1), RATE, format=kind, subtype=FORMATS[kind])
        paths.append(path)
    return paths


def plain(paths: Sequence[Path], rate: int | None) -> None:
    """Read files with soundfile in a loop, and resample them unless `rate` is None."""
    for path in paths:
        wave, own = soundfile.read(path, dtype="float32")
        wave = wave if wave.ndim == 1 else wave.mean(1)
        if rate is not None:
            soxr.resample(wave, own, rate, quality="HQ")


def compare(what: str, ours: Work, theirs: Work) -> Faster:
    """Compare the CPU time of two ways, which other programs of the machine hardly change."""
    ours(), theirs()
    return faster(what, [(spent(ours).cpu, spent(theirs).cpu) for _ in range(ROUNDS)])


def pairs(kind: str, channels: int, paths: Sequence[Path]) -> list[Faster]:
    """Compare `decode` and whole clips with plain soundfile."""
    clips = [Clip.from_file(path, [], "train") for path in paths]
    what = f"{kind}, {'stereo' if channels == 2 else 'mono'}"

    def decoded() -> None:
        for path in paths:
            decode(path)

    def resampled() -> None:
        for clip in clips:
            waveform(clip, TARGET_RATE)

    return [
        compare(f"decode: {what}", decoded, lambda: plain(paths, None)),
        compare(f"clip: {what}", resampled, lambda: plain(paths, TARGET_RATE)),
    ]


def throughput(kind: str, paths: Sequence[Path], times: int) -> list[Throughput]:
    """Measure loading without workers, with one and with two, alternately."""
    clips = [Clip.from_file(path, [], "train", id=f"{turn}-{path.name}") for turn in range(times) for path in paths]

    def load(workers: int) -> Work:
        def work() -> None:
            with loaded(clips, Loader(), workers) as in_order:
                for _ in in_order:
                    pass

        return work

    rounds = [[seconds(load(workers)) for workers in (0, 1, 2)] for _ in range(ROUNDS)]
    return [
        Throughput(
            f"{kind}, {len(clips)} clips",
            workers,
            Seconds(sorted(each[workers] for each in rounds)[ROUNDS // 2] / len(clips)),
            spread([each[0] / each[workers] for each in rounds]),
        )
        for workers in (1, 2)
    ]


def sections(small: bool) -> list[Section]:
    """Compare every format with plain soundfile, and workers with none."""
    count, length, times = (2, 0.5, 2) if small else (FILES, 10.0, 8)
    rows: list[Faster] = []
    workers: list[Throughput] = []
    for kind in FORMATS:
        for channels in (1, 2):
            with tempfile.TemporaryDirectory() as folder:
                paths = write(Path(folder), kind, channels, count, length)
                rows += pairs(kind, channels, paths)
                if channels == 1 and kind in ("WAV", "FLAC"):
                    workers += throughput(kind, paths, times)
    targets = [
        Target(f"{row.what}: speed of plain soundfile", 0.8, row.faster.median)
        for row in rows
        if row.what.startswith("clip")
    ]
    targets += [
        Target(f"{row.what}: times faster with two workers", 1.8, row.factor.median)
        for row in workers
        if row.workers == 2
    ]
    return [Section("14. Decoding", COMPARED, [rows, workers], BOUNDS, targets)]


if __name__ == "__main__":
    command(sections, __doc__, None)
