"""The mixer of the data set `scenes`: `plan` draws the parameters of a scene, `render` computes its audio.

The mixing follows Scaper and URBAN-SED (Salamon, MacConnell, Cartwright, Li and Bello, "Scaper: A library for
soundscape synthesis and augmentation", WASPAA 2017). The class, recording, onset and level of an event are drawn
uniformly; its pitch and duration are changed a little; all events are added to a quiet background. There are two
differences: the background is noise of a random colour, or wind, instead of one Brownian noise for all scenes; and
levels are RMS values instead of loudness units.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

from otoscope.datasets._scenes_effects import RATE, change_pitch_and_duration, coloured_noise, make_loop
from otoscope.types import HELD_OUT, Event, Wave

VERSION = 1  # increase it whenever the audio of a plan or the plan of a seed changes
SECONDS = 10.0
EVENTS = (1, 6)  # fewest and most events of a scene
SNR_DB = (6.0, 30.0)
SEMITONES = 3.0  # largest change of pitch, up or down
STRETCH = (0.8, 1.2)  # range of the new duration relative to the old one
BACKGROUND_DB = -50.0  # RMS level in dB relative to full scale, as in URBAN-SED
WIND = 0.25  # fraction of scenes whose background is a recording of wind
PEAK = 0.95  # a scene with a larger absolute value is scaled down to this one
SPLITS = ("train", "validation", HELD_OUT)
DATA = Path(__file__).parent / "scenes_data"

_SAMPLES = int(SECONDS * RATE)


@dataclass(frozen=True)
class Recording:
    """A recording of the package.

    Parameters
    ----------
    id : its identifier in recordings.json.
    label : its class, or "background".
    split : the split whose scenes may use it.
    seconds : its duration.
    file : its path relative to DATA.
    """

    id: str
    label: str
    split: str
    seconds: float
    file: str


@dataclass(frozen=True)
class PlacedEvent:
    """A recording with its place in a scene and the changes applied to it.

    Parameters
    ----------
    recording : the recording.
    start : first sample of the event in the scene.
    length : duration of the event in samples.
    semitones : change of pitch.
    stretch : new duration relative to that of the recording.
    snr : mean power of the event relative to that of the background in the same samples, in dB.
    """

    recording: Recording
    start: int
    length: int
    semitones: float
    stretch: float
    snr: float

    @property
    def event(self) -> Event:
        """The label with onset and offset in seconds."""
        return Event(self.start / RATE, (self.start + self.length) / RATE, self.recording.label)


@dataclass(frozen=True)
class Mix:
    """The parameters of a scene.

    Parameters
    ----------
    wind : the recording of the background; None for a background of noise.
    slope : the noise has a power proportional to 1 / f ** slope.
    seed : seed of the noise, or of the position at which the recording begins.
    placed : the events.
    """

    wind: Recording | None
    slope: float
    seed: int
    placed: tuple[PlacedEvent, ...]

    @property
    def events(self) -> tuple[Event, ...]:
        """The events, sorted by onset."""
        return tuple(sorted((p.event for p in self.placed), key=lambda e: (e.onset, e.offset, e.label)))

    @property
    def recordings(self) -> tuple[str, ...]:
        """Identifiers of the recordings of the events, sorted, each once."""
        return tuple(sorted({p.recording.id for p in self.placed}))


@cache
def catalogue() -> dict[tuple[str, str], tuple[Recording, ...]]:
    """Return the recordings of each (split, label); those of backgrounds have the label "background"."""
    recordings: dict[tuple[str, str], list[Recording]] = {}
    for row in json.loads((DATA / "recordings.json").read_text(encoding="utf-8")):
        file = f"{row['class']}/{row['id']}.ogg"
        recording = Recording(row["id"], row["class"], row["split"], row["seconds"], file)
        recordings.setdefault((recording.split, recording.label), []).append(recording)
    return {key: tuple(group) for key, group in recordings.items()}


@cache
def classes() -> tuple[str, ...]:
    """Return the classes of events, sorted."""
    return tuple(sorted({label for _, label in catalogue()} - {"background"}))


def plan(seed: int, split: str, index: int) -> Mix:
    """Draw the parameters of a scene. They depend only on the arguments and on the list of recordings.

    Parameters
    ----------
    seed : seed of the data set.
    split : "train", "validation" or "test"; the scene uses recordings of this split.
    index : number of the scene.

    Examples
    --------
    >>> plan(0, "train", 7) == plan(0, "train", 7), plan(0, "train", 7) == plan(1, "train", 7)
    (True, False)
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, SPLITS.index(split), index])))
    winds = catalogue()[split, "background"]
    wind = winds[rng.integers(len(winds))] if rng.random() < WIND else None
    slope = float(rng.uniform(0, 2))
    noise_seed = int(rng.integers(2**63))
    placed = tuple(_place(rng, split) for _ in range(rng.integers(EVENTS[0], EVENTS[1] + 1)))
    return Mix(wind, slope, noise_seed, placed)


def _place(rng: np.random.Generator, split: str) -> PlacedEvent:
    recordings = catalogue()[split, classes()[rng.integers(len(classes()))]]
    recording = recordings[rng.integers(len(recordings))]
    stretch = float(rng.uniform(*STRETCH))
    length = round(recording.seconds * stretch * RATE)
    start = int(rng.integers(_SAMPLES - length + 1))
    semitones = float(rng.uniform(-SEMITONES, SEMITONES))
    return PlacedEvent(recording, start, length, semitones, stretch, snr=float(rng.uniform(*SNR_DB)))


def render(scene: Mix) -> Wave:
    """Compute the audio of a scene: the background plus all events.

    Parameters
    ----------
    scene : the parameters, as drawn by `plan`.

    Returns
    -------
    float32 [160000]. Samples at 16 kHz, of an absolute value of at most `PEAK`.

    Examples
    --------
    >>> render(plan(0, "train", 7)).shape
    (160000,)
    """
    quiet = background(scene)
    mix = quiet.copy()
    for placed in scene.placed:
        extent = slice(placed.start, placed.start + placed.length)
        mix[extent] += event_audio(placed, quiet[extent])
    return np.asarray(mix * min(1.0, PEAK / float(np.abs(mix).max())), dtype=np.float32)


def event_audio(placed: PlacedEvent, quiet: Wave) -> Wave:
    """Compute the audio of one event.

    Parameters
    ----------
    placed : the event.
    quiet : float32 [placed.length]. The background in the same samples; the level of the event is relative to it.

    Returns
    -------
    float32 [placed.length].
    """
    wave = change_pitch_and_duration(decode(placed.recording.file), placed.semitones, placed.stretch, placed.length)
    gain = _rms(quiet) / max(_rms(wave), 1e-9) * 10 ** (placed.snr / 20)
    return np.asarray(wave * gain, dtype=np.float32)


def background(scene: Mix) -> Wave:
    """Compute the background of a scene, float32 [160000], with an RMS level of `BACKGROUND_DB`."""
    rng = np.random.Generator(np.random.PCG64(scene.seed))
    if scene.wind is None:
        wave = coloured_noise(rng.standard_normal(_SAMPLES, dtype=np.float32), scene.slope)
    else:
        loop = make_loop(decode(scene.wind.file))
        wave = np.take(loop, np.arange(_SAMPLES) + rng.integers(len(loop)), mode="wrap")
    return np.asarray(wave * (10 ** (BACKGROUND_DB / 20) / _rms(wave)), dtype=np.float32)


@cache
def _pcm(file: str) -> bytes:
    samples, rate = soundfile.read(DATA / file, dtype="int16")
    if rate != RATE:
        raise ValueError(f"{DATA / file}: {rate} Hz, expected {RATE}; the package's data is damaged, install it again")
    return bytes(samples.tobytes())


def decode(file: str) -> Wave:
    """Decode a recording of the package, float32 [S] at 16 kHz; its samples are cached in memory as 16-bit integers."""
    return np.divide(np.frombuffer(_pcm(file), np.int16), 32768, dtype=np.float32)


def _rms(wave: Wave) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
