"""Decoding and resampling beside plain soundfile in a loop, and with workers.

python benchmarks/decoding.py            # clips of 10 s, 44.1 kHz
python benchmarks/decoding.py --small    # tiny sizes, to check that it runs
"""

from __future__ import annotations

import resource
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import soxr

from measure import Work, faster, spent
from otoscope import datasets
from otoscope.audio.decode import decode
from otoscope.bank._encode import Loaded, Stopwatch
from otoscope.bank._loader import loaded
from otoscope.datasets.audio_report import reporting_audio
from otoscope.datasets.waveform import waveform
from otoscope.types import Clip
from render import command
from rows import Faster, Seconds, Section, Target

RATE, TARGET_RATE, FILES = 44100, 16000, 24
ROUNDS = 5
FORMATS = {"WAV": "PCM_16", "FLAC": "PCM_16", "MP3": "MPEG_LAYER_III", "OGG": "VORBIS"}
COMPARED = """\
Scenes of 10 s, written at 44.1 kHz, are read one after another by one process. In the rows `decode`, the other way is
`soundfile.read(file, dtype="float32")`, and for stereo the mean of the channels. In the rows `clip` it is followed by
`soxr.resample` to 16 kHz, as otoscope does. Otoscope also checks the structure of the file, the number of samples,
NaN, and the checksums of FLAC, Ogg and MP3 files. Times are CPU times.

The second table loads the same clips as an extraction does, which also looks for faults such as clipping: without
workers, and as `--loader-workers 2`. The time on two free cores is computed as half of all CPU time, or that of the
main process if it is more; the last column is measured on the clock, and holds if the machine has no other work."""
BOUNDS = """\
Decoding itself is done by libsndfile in both. What otoscope adds is one pass over the samples for NaN, a look at the
structure of the file (every page of Ogg, every frame of MP3), checksums of Ogg and MP3, and for FLAC the MD5 sum, which
needs a third of the time of decoding FLAC. Resampling, which is the same in both, needs more time than decoding WAV.

Workers return samples through shared memory. What keeps two of them from being twice as fast is that the samples are
copied twice, and that workers start as copies of a large process; both count most where decoding needs least, for
WAV."""


@dataclass(frozen=True)
class Throughput:
    """The time of loading clips without and with two workers."""

    what: Annotated[str, "what"]
    alone: Annotated[Seconds, "CPU time per clip without workers"]
    workers: Annotated[Seconds, "of the workers"]
    main: Annotated[Seconds, "of the main process beside them"]
    gain: Annotated[float, "times faster on two free cores"]
    clock: Annotated[float, "times faster on the clock"]


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


def throughput(kind: str, paths: Sequence[Path], times: int) -> Throughput:
    """Measure the time of loading without workers and with two."""
    clips = [Clip.from_file(path, [], "train", id=f"{turn}-{path.name}") for turn in range(times) for path in paths]

    def load(workers: int) -> Work:
        def work() -> None:
            with reporting_audio(), loaded(clips, Loader(), workers) as in_order:
                for _ in in_order:
                    pass

        return work

    rounds = []
    for _ in range(ROUNDS):
        without, before = spent(load(0)), children()
        beside = spent(load(2))
        rounds.append((without.cpu, children() - before, beside.cpu, len(clips) * without.wall / beside.wall))
    alone, workers, main, clock = (statistics.median(column) / len(clips) for column in zip(*rounds, strict=True))
    gain = alone / max(main, (workers + main) / 2)
    return Throughput(f"{kind}, {len(clips)} clips", Seconds(alone), Seconds(workers), Seconds(main), gain, clock)


def children() -> float:
    """CPU time in seconds of the processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def sections(small: bool) -> list[Section]:
    """Compare every format with plain soundfile, and workers with none."""
    count, length, times = (2, 0.5, 2) if small else (FILES, 10.0, 24)
    rows: list[Faster] = []
    workers: list[Throughput] = []
    for kind in FORMATS:
        for channels in (1, 2):
            with tempfile.TemporaryDirectory() as folder:
                paths = write(Path(folder), kind, channels, count, length)
                rows += pairs(kind, channels, paths)
                if channels == 1:
                    workers.append(throughput(kind, paths, times))
    targets = [
        Target(f"{row.what}: speed of plain soundfile", 0.75, row.faster.median)
        for row in rows
        if row.what.startswith("clip")
    ]
    targets += [Target(f"{row.what}, two workers: times faster on two free cores", 1.6, row.gain) for row in workers]
    return [Section("14. Decoding", COMPARED, [rows, workers], BOUNDS, targets)]


if __name__ == "__main__":
    command(sections, __doc__, None)
