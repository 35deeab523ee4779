"""Front ends beside their plain form, and the shares of an extraction.

python benchmarks/front_ends.py            # 10 s clips
python benchmarks/front_ends.py --small    # tiny sizes, to check that it runs
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from measure import Work, compare, typical
from otoscope import bank, encoders
from otoscope.audio import reference
from otoscope.audio.fbank import fbank
from otoscope.audio.mel import mel_spectrogram
from otoscope.bank import Extraction
from otoscope.datasets import Dataset
from otoscope.types import AudioBatch, Clip, Task
from render import command
from rows import Percent, Seconds, Section, Target

RATE, FILES = 16000, 8
MEL: dict[str, Any] = {"rate": RATE, "n_fft": 1024, "hop": 160, "bins": 128}
COMPARED = """\
The front ends of otoscope.audio and their plain form (`otoscope.audio.reference`): one operation after another on the
whole batch, the power by `abs().square()`, a dense product with the mel filters. Both compute the same values in
float32, with one thread, which is how workers of an extraction compute them."""
BOUNDS = """\
The plain form moves every intermediate result of a batch through memory, and most of its new memory is mapped anew in
every call. The library computes parts of 2^18 samples, which stay in the cache. It applies pre-emphasis and window in
one pass, and multiplies the filters in blocks of 16, outside of which their weights are zero. What remains is mostly
the Fourier transform and the logarithm."""
EXTRACTED = """\
The shares of the parts of an extraction in its wall-clock time (`bank.extractions`): waiting for audio, front end,
encoder, and waiting for the thread that casts and writes. The clips are mono WAV files of 44.1 kHz, which are decoded
and resampled. `eat` is a ViT-B with random weights. With one worker, decoding and front end run beside the encoder."""
SHARES = """\
On a machine whose cores all compute the encoder, a worker saves only what one core would have left idle: decoding,
resampling and the front end need the same time of some core. Beside a GPU they cost nothing as long as there are
enough workers. The rest of the time is what the encoder needs."""


@dataclass(frozen=True)
class Shares:
    """Where the time of one extraction went."""

    what: Annotated[str, "what"]
    workers: Annotated[int, "workers"]
    each: Annotated[Seconds, "time per clip"]
    encoder: Annotated[Percent, "encoder"]
    audio: Annotated[Percent, "waiting for audio"]
    front_end: Annotated[Percent, "front end"]
    storing: Annotated[Percent, "storing"]


@dataclass(frozen=True)
class Part:
    """A front end beside its encoder, with one thread."""

    what: Annotated[str, "what"]
    front_end: Annotated[Seconds, "front end, time per clip"]
    body: Annotated[Seconds, "rest of the encoder"]
    share: Annotated[Percent, "share of the front end"]


class Files(Dataset):
    """Clips of WAV files with noise.

    Parameters
    ----------
    folder : where the files are written.
    clips : number of clips, which share a few files.
    seconds : duration of a clip.
    """

    name, splits = "wav files", ("train",)
    task = Task(("noise",), "multi-label", "mAP")

    def __init__(self, *, folder: Path, clips: int, seconds: float) -> None:
        self.count, self.paths = clips, [folder / f"{i}.wav" for i in range(FILES)]
        for seed, path in enumerate(self.paths):
            noise = 0.1 * np.random.default_rng(seed).standard_normal(round(44100 * seconds))
            soundfile.write(path, noise, 44100, subtype="PCM_16")

    def clips(self, split: str) -> Sequence[Clip]:
        """List the clips."""
        return [Clip.from_file(self.paths[i % FILES], ["noise"], split, id=str(i)) for i in range(self.count)]


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread inside a `with` block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def cases(clips: int, samples: int) -> dict[str, tuple[Work, Work]]:
    """Return each front end and its plain form, on the same noise."""
    waves = 0.1 * torch.randn(clips, samples, generator=torch.Generator().manual_seed(0))
    size = f"{clips} x {samples / RATE:g} s"
    return {
        f"`fbank`, {size}": (lambda: fbank(waves), lambda: reference.fbank(waves)),
        f"`mel_spectrogram`, {size}": (
            lambda: mel_spectrogram(waves, **MEL),
            lambda: reference.mel_spectrogram(waves, **MEL),
        ),
    }


def part(name: str, samples: int, options: dict[str, Any]) -> Part:
    """Measure front end and body of an encoder for one clip."""
    encoder = encoders.create(name, **options)
    wave: Tensor = 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(0))
    batch = AudioBatch(wave, torch.tensor([samples]), RATE)
    with encoder.inference():
        features = encoder.front_end(batch)
        front_end, body = (
            typical(work) for work in (lambda: encoder.front_end(batch), lambda: encoder.embed(features))
        )
    return Part(f"`{name}`", front_end, body, Percent(front_end / (front_end + body)))


def extraction(name: str, data: Dataset, workers: int, options: dict[str, Any]) -> Extraction:
    """Extract a bank into a temporary folder and return where the time went."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bank"
        made = bank.extract(encoders.create(name, **options), data, path, loader_workers=workers, progress=False)
        return made.extractions[0]


def sections(small: bool) -> list[Section]:
    """Compare front ends with their plain form, and measure the shares of extractions."""
    samples, clips = (4000, 3) if small else (10 * RATE, 16)
    options: dict[str, dict[str, Any]] = {"tiny": {}} if small else {"tiny": {}, "eat": {"weights": "random"}}
    with one_thread():
        speed = [compare(what, *both) for batch in (1, clips) for what, both in cases(batch, samples).items()]
        parts = [part(name, samples, given) for name, given in options.items()]
    rows = []
    counts = {"tiny": 4} if small else {"tiny": 192, "eat": 32}
    with tempfile.TemporaryDirectory() as folder:
        for name, given in options.items():
            data = Files(folder=Path(folder), clips=counts[name], seconds=samples / RATE)
            for workers in (0, 1):
                rows.append(_shares(name, extraction(name, data, workers, given)))
    wanted = {"tiny": 0.75, "eat": 0.9}
    targets = [Target("`fbank`, batch: times faster", 5.0, speed[2].faster.median)]
    targets += [
        Target(f"{row.what}: share of the encoder with one worker", wanted[name], row.encoder)
        for name, row in zip(options, rows[1::2], strict=True)
    ]
    return [
        Section("11. Front ends", COMPARED, [speed, parts], BOUNDS, targets[:1]),
        Section("12. Where the time of an extraction goes", EXTRACTED, [rows], SHARES, targets[1:]),
    ]


def _shares(name: str, measured: Extraction) -> Shares:
    each = Seconds(measured.seconds["total"] / measured.clips)
    shares = (Percent(measured.share(part)) for part in ("encoder", "audio", "front end", "storing"))
    return Shares(f"`{name}`, {measured.clips} clips", measured.loader_workers, each, *shares)


if __name__ == "__main__":
    command(sections, __doc__, None)
