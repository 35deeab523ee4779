"""How one scene is mixed: `plan` decides everything from a seed, `render` makes the audio of a plan.

The manner is that of Scaper and URBAN-SED (Salamon, MacConnell, Cartwright, Li and Bello, "Scaper: A library for
soundscape synthesis and augmentation", WASPAA 2017): events of uniform class, recording, onset and level over a quiet
background, each changed a little in pitch and in duration. Two differences: the background is noise of a random
colour, or wind, rather than one Brownian noise for all; and levels are plain RMS, not loudness units.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import soxr

from otoscope.types import HELD_OUT, Event, Wave

VERSION = 1  # raise it whenever the same plan would sound different, or the same seed give another plan
RATE = 16_000
SECONDS = 10.0
EVENTS = (1, 6)  # in a scene
SNR_DB = (6.0, 30.0)
SEMITONES = 3.0  # pitch goes up or down by at most this much
STRETCH = (0.8, 1.2)  # duration after / before
BACKGROUND_DB = -50.0  # RMS, full scale = 0, as in URBAN-SED
WIND = 0.25  # share of scenes whose background is a recording
PEAK = 0.95  # a louder scene is scaled down as a whole
SPLITS = ("train", "validation", HELD_OUT)
DATA = Path(__file__).parent / "scenes_data"

_SAMPLES = int(SECONDS * RATE)


@dataclass(frozen=True)
class Recording:
    """One recording that ships with the package: `file` is relative to DATA, `seconds` its duration."""

    id: str
    label: str
    split: str
    seconds: float
    file: str


@dataclass(frozen=True)
class PlacedEvent:
    """One recording as it sounds in a scene: `start` and `length` in samples, pitch in semitones, `snr` in dB.

    `snr` is the event's mean power over that of the background in the same samples.
    """

    recording: Recording
    start: int
    length: int
    semitones: float
    stretch: float
    snr: float

    @property
    def event(self) -> Event:
        """The label and its extent in seconds."""
        return Event(self.start / RATE, (self.start + self.length) / RATE, self.recording.label)


@dataclass(frozen=True)
class Mix:
    """A scene before it is heard. Background: noise with power ~ 1 / f ** `slope`, or, if given, the recording `wind`.

    `seed` decides the noise, or where the recording begins.
    """

    wind: Recording | None
    slope: float
    seed: int
    placed: tuple[PlacedEvent, ...]

    @property
    def events(self) -> tuple[Event, ...]:
        """The events in order of onset."""
        return tuple(sorted((p.event for p in self.placed), key=lambda e: (e.onset, e.offset, e.label)))


@cache
def catalogue() -> dict[tuple[str, str], tuple[Recording, ...]]:
    """The recordings of each (split, label); backgrounds have the label "background"."""
    found: dict[tuple[str, str], list[Recording]] = {}
    for row in json.loads((DATA / "recordings.json").read_text(encoding="utf-8")):
        file = f"{row['class']}/{row['id']}.ogg"
        recording = Recording(row["id"], row["class"], row["split"], row["seconds"], file)
        found.setdefault((recording.split, recording.label), []).append(recording)
    return {key: tuple(recordings) for key, recordings in found.items()}


@cache
def classes() -> tuple[str, ...]:
    """The event classes, sorted."""
    return tuple(sorted({label for _, label in catalogue()} - {"background"}))


def plan(seed: int, split: str, index: int) -> Mix:
    """The scene of that number: it depends on nothing but the three arguments and the recordings that ship.

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
    """The audio of a scene, float32 [160000] at 16 kHz, peak below 1: the background plus one layer for each event.

    >>> render(plan(0, "train", 7)).shape
    (160000,)
    """
    below = background(scene)
    mix = below.copy()
    for placed in scene.placed:
        extent = slice(placed.start, placed.start + placed.length)
        mix[extent] += layer(placed, below[extent])
    return np.asarray(mix * min(1.0, PEAK / float(np.abs(mix).max())), dtype=np.float32)


def layer(placed: PlacedEvent, below: Wave) -> Wave:
    """One event, [placed.length], at its level above `below`, the background of the same samples."""
    wave = varied(decoded(placed.recording.file), placed.semitones, placed.stretch, placed.length)
    gain = _rms(below) / max(_rms(wave), 1e-9) * 10 ** (placed.snr / 20)
    return np.asarray(wave * gain, dtype=np.float32)


def background(scene: Mix) -> Wave:
    """What lies below the events, float32 [160000], RMS at BACKGROUND_DB."""
    rng = np.random.Generator(np.random.PCG64(scene.seed))
    if scene.wind is None:
        wave = coloured(rng.standard_normal(_SAMPLES, dtype=np.float32), scene.slope)
    else:
        loop = looped(decoded(scene.wind.file))
        wave = np.take(loop, np.arange(_SAMPLES) + rng.integers(len(loop)), mode="wrap")
    return np.asarray(wave * (10 ** (BACKGROUND_DB / 20) / _rms(wave)), dtype=np.float32)


def coloured(white: Wave, slope: float) -> Wave:
    """White noise with its power made to fall as 1 / f ** slope above 40 Hz: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(white)
    frequency = np.maximum(np.fft.rfftfreq(len(white), 1 / RATE), 40.0)
    return np.fft.irfft(spectrum * frequency ** (-slope / 2), len(white)).astype(np.float32)


def looped(wave: Wave, fade: float = 0.5) -> Wave:
    """The wave made to repeat without a seam: its last `fade` seconds are blended into its first, at equal power."""
    n = min(int(fade * RATE), len(wave) // 2)
    angle = np.linspace(0, np.pi / 2, n, dtype=np.float32)
    head = wave[:n] * np.sin(angle) + wave[-n:] * np.cos(angle)
    return np.concatenate([head, wave[n:-n]])


@cache
def _pcm(file: str) -> bytes:
    samples, rate = soundfile.read(DATA / file, dtype="int16")
    if rate != RATE:
        raise ValueError(f"{DATA / file}: {rate} Hz, expected {RATE}; the package's data is damaged, install it again")
    return bytes(samples.tobytes())


def decoded(file: str) -> Wave:
    """A recording as float32 [S] at 16 kHz; kept in memory (16 bits a sample) once it was read."""
    return np.divide(np.frombuffer(_pcm(file), np.int16), 32768, dtype=np.float32)


def varied(wave: Wave, semitones: float, stretch: float, length: int) -> Wave:
    """The wave at another pitch and duration, cut or padded to `length` samples.

    Stretching by `stretch` times the pitch ratio and then resampling by that ratio leaves `stretch` as the change of
    duration and the ratio as the change of pitch.
    """
    ratio = 2 ** (semitones / 12)
    longer = stretched(wave, stretch * ratio)
    shifted = soxr.resample(longer, RATE * ratio, RATE, quality="MQ")[:length]
    return np.pad(shifted, (0, length - len(shifted)))


def stretched(wave: Wave, factor: float, window: int = 800, reach: int = 160) -> Wave:
    """`factor` times as long at the same pitch, by WSOLA (Verhelst and Roelands, ICASSP 1993, section 3).

    Half-overlapping windows of 50 ms are laid at a fixed step; each is taken from near (within `reach` samples) the
    place that the factor asks for, where it best continues the window before it: at the greatest normalised
    correlation with what followed that one in the input. Input [S], output [round(factor * S)].

    >>> tone = np.sin(np.arange(16000) * 2 * np.pi * 440 / 16000).astype(np.float32)
    >>> longer = stretched(tone, 1.5)
    >>> len(longer), int(np.abs(np.fft.rfft(longer[4000:20000])).argmax())
    (24000, 440)
    """
    step, length = window // 2, round(factor * len(wave))
    padded = np.pad(wave, (step + reach, 2 * window + reach))
    energy = np.cumsum(np.square(padded, dtype=np.float64))
    shape = np.hanning(window + 1)[:-1].astype(np.float32)
    out = np.zeros(length + 2 * window, np.float32)
    at = reach  # in `padded`; the first window is centred on the first sample
    out[:window] = padded[at : at + window] * shape
    for start in range(step, length + step, step):
        wanted = padded[at + step : at + step + window]
        first = min(max(round(start / factor), 0), len(wave) + step)
        near = padded[first : first + 2 * reach + window]
        lags = len(near) - window + 1
        norm = np.sqrt(np.maximum(energy[first + window - 1 :][:lags] - energy[first : first + lags], 1e-9))
        at = min(first + int(np.argmax(np.correlate(near, wanted) / norm)), len(padded) - 2 * window)
        out[start : start + window] += padded[at : at + window] * shape
    return out[step : step + length]


def _rms(wave: Wave) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
