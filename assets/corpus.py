"""Write the corpus for pretraining an encoder without labels: all sounds of the packages, at 16 kHz mono.

    python assets/corpus.py --raw raw --out pretrain [--exclude recordings.json]

writes two files to `--out`: `audio.npy`, an int16 array with the samples of all sounds that can be decoded, and
`index.json`, the sounds used for training: [{package, path, start, length, sha256, kind}], with start and length in
samples of `audio.npy`. `kind` is derived from the path and is only used to balance the corpus, never as a label.
Duplicates and clips shorter than 0.1 s are in the array but not in the index.

Sounds are decoded once, which takes minutes; the results are stored in `decoded.json` and `prints.npy`. A run with
another `--exclude` writes only the index again. `--exclude` names a JSON list of {package, path, split}: the sounds
listed as validation or test, and sounds similar to them, are excluded.
"""

import argparse
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from otoscope.files import replacing
from sources import (
    ALIKE,
    RATE,
    SAME,
    Sound,
    UnreadableSoundError,
    Wave,
    at_16k,
    fingerprint,
    near_duplicates,
    sounds,
    trim,
)

PEAK = 0.5
LONGEST = 120 * RATE  # of one file, so that music does not outweigh the other sounds
SHORTEST = RATE // 10
SPEECH_HOURS = 3.0
PROCESSES = 2

MUSIC = re.compile(r"(^|/)music/", re.IGNORECASE)
SPEECH = re.compile(
    r"^asterisk-|^klettres-|^ktuberling-|^tuxpaint-.*_desc|^hedgewars-.*/voices/|^0ad-.*/voice/|^openarena-.*/(voices|teamplay)/"
    r"|^warzone2100-.*!audio/(?!sfx|music)",
)


@dataclass(frozen=True)
class Entry:
    """A decoded sound; `start` and `length` in samples of audio.npy, `sha256` of its samples."""

    package: str
    path: str
    start: int
    length: int
    sha256: str
    kind: str


@dataclass(frozen=True)
class Decoded:
    """All sounds that decode, as stored in `folder`: `prints[i]` is the fingerprint of `entries[i]`."""

    entries: list[Entry]
    prints: Wave
    failures: dict[str, str]


def kind(package: str, path: str) -> str:
    """ "music", "speech" or "event", from the names alone.

    >>> kind("0ad-data", "public/audio/music/x.ogg"), kind("0ad-data", "public/audio/voice/greek/x.ogg")
    ('music', 'speech')
    """
    if SPEECH.search(f"{package}/{path}"):
        return "speech"
    return "music" if MUSIC.search(path) else "event"


def clip(wave: Wave, rate: int) -> Wave:
    """The wave at 16 kHz without silence at its ends or a constant offset, at most 2 min, with a peak of 0.5."""
    wave = at_16k(wave, rate)
    wave = trim(wave - wave.mean(dtype=np.float64).astype(np.float32))[:LONGEST] if len(wave) else wave
    return wave * np.float32(PEAK / np.abs(wave).max(initial=1e-9))


def decode_one(sound: Sound) -> tuple[npt.NDArray[np.int16], Wave] | str:
    """The samples and the fingerprint of a sound, or the reason why it has none."""
    try:
        wave = clip(*sound.read())
    except UnreadableSoundError as error:
        return str(error)
    if not len(wave):
        return f"{sound.package}: {sound.path} is silent"
    return np.rint(wave * 32767).astype(np.int16), fingerprint(wave)


def decode(found: list[Sound], folder: Path) -> None:
    """Write audio.npy, prints.npy and decoded.json for the sounds, each whole or not at all, the last one last."""
    waves, prints, entries, start = [], [], [], 0
    failures: dict[str, str] = {}
    with Pool(PROCESSES) as pool:
        work = pool.imap(decode_one, found, chunksize=16)
        for sound, result in zip(found, tqdm(work, total=len(found), mininterval=10), strict=True):
            if isinstance(result, str):
                failures[f"{sound.package}/{sound.path}"] = result
                continue
            wave, print_ = result
            digest = hashlib.sha256(wave.tobytes()).hexdigest()
            what = kind(sound.package, sound.path)
            entries.append(Entry(sound.package, sound.path, start, len(wave), digest, what))
            waves.append(wave)
            prints.append(print_)
            start += len(wave)
    with replacing(folder / "audio.npy") as at:
        save_flat(at, waves)
    with replacing(folder / "prints.npy") as at, at.open("wb") as file:
        np.save(file, np.stack(prints))
    kept = {"recipe": recipe(found), "entries": [asdict(entry) for entry in entries], "failures": failures}
    with replacing(folder / "decoded.json") as at:
        at.write_text(json.dumps(kept))


def save_flat(at: Path, waves: list[npt.NDArray[np.int16]]) -> None:
    """Save the arrays one after the other as one .npy, without a second copy in memory."""
    flat = np.lib.format.open_memmap(at, "w+", np.int16, (sum(map(len, waves)),))
    np.concatenate(waves, out=flat)
    flat.flush()


def recipe(found: Iterable[Sound]) -> dict[str, Any]:
    """Everything that decides the decoded files; it is stored with them and compared before they are used again."""
    names = "\n".join(f"{sound.package}/{sound.path}" for sound in found)
    listing = hashlib.sha256(names.encode()).hexdigest()
    return {"version": 3, "rate": RATE, "peak": PEAK, "longest": LONGEST, "sounds": listing}


def decoded_once(raw: Path, folder: Path) -> Decoded:
    """The result of `decode` for these sounds in `folder`; `decode` is called only if there is none."""
    found, at = list(sounds(raw)), folder / "decoded.json"
    if not at.exists() or json.loads(at.read_text())["recipe"] != recipe(found):
        decode(found, folder)
    kept = json.loads(at.read_text())
    entries = [Entry(**entry) for entry in kept["entries"]]
    return Decoded(entries, np.load(folder / "prints.npy"), kept["failures"])


def unique(decoded: Decoded) -> tuple[list[int], Counter[str]]:
    """The selected sounds and why others are excluded; of similar sounds the longest is selected."""
    entries, dropped = decoded.entries, Counter[str]()
    alike: dict[int, list[int]] = defaultdict(list)
    for i, j in near_duplicates(decoded.prints, SAME).tolist():
        alike[i].append(j)
        alike[j].append(i)
    kept: set[int] = set()
    digests: set[str] = set()
    for i in sorted(range(len(entries)), key=lambda i: (-entries[i].length, i)):
        if entries[i].length < SHORTEST:
            dropped["shorter than 0.1 s"] += 1
        elif entries[i].sha256 in digests:
            dropped["exact duplicate"] += 1
        elif kept.intersection(alike[i]):
            dropped["near duplicate"] += 1
        else:
            kept.add(i)
            digests.add(entries[i].sha256)
    return sorted(kept), dropped


def excluded_sounds(decoded: Decoded, file: Path) -> set[int]:
    """The sounds that are listed in `file` as validation or test, with their copies and similar sounds.

    Raises ValueError where a listed sound is not among the decoded ones: it could not be kept out.
    """
    listed = {(item["package"], item["path"]) for item in json.loads(file.read_text()) if item["split"] != "train"}
    names = [(entry.package, entry.path) for entry in decoded.entries]
    if missing := sorted(listed.difference(names)):
        raise ValueError(f"{len(missing)} sounds listed in {file} are not in the corpus, such as {missing[0]}")
    out = {i for i, name in enumerate(names) if name in listed}
    digests = {decoded.entries[i].sha256 for i in out}
    twins = {i for i, entry in enumerate(decoded.entries) if entry.sha256 in digests}
    near = near_duplicates(decoded.prints, ALIKE)
    near = near[np.isin(near, list(out)).any(axis=1)]
    return out | twins | set(near.ravel().tolist())


def less_speech(entries: list[Entry]) -> list[Entry]:
    """The entries with at most SPEECH_HOURS of speech, chosen in the order of digests, whatever the package."""
    remaining = SPEECH_HOURS * 3600 * RATE
    drawn: set[str] = set()
    for entry in sorted((e for e in entries if e.kind == "speech"), key=lambda e: e.sha256):
        remaining -= entry.length
        if remaining < 0:
            break
        drawn.add(entry.sha256)
    return [entry for entry in entries if entry.kind != "speech" or entry.sha256 in drawn]


def report(entries: list[Entry]) -> str:
    """Hours and sounds by package and kind, as a table."""
    table: dict[tuple[str, str], list[float]] = defaultdict(list)
    for entry in entries:
        for package in (entry.package, "all"):
            table[package, entry.kind].append(entry.length / RATE / 3600)
    rows = [f"{package:30} {what:7} {len(t):6} {sum(t):7.3f} h" for (package, what), t in sorted(table.items())]
    return "\n".join(rows)


def main() -> None:
    """Write the corpus, or only its index if the sounds were decoded before."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--raw", type=Path, required=True, help="folder of unpacked packages (assets/sources.py)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--exclude", type=Path, help="JSON list of {package, path, split}; only train may be used")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    decoded = decoded_once(options.raw, options.out)
    kept, dropped = unique(decoded)
    excluded = excluded_sounds(decoded, options.exclude) if options.exclude else set()
    dropped["listed as validation or test"] = len(excluded.intersection(kept))
    entries = less_speech([decoded.entries[i] for i in kept if i not in excluded])
    dropped["more speech than wanted"] = len(kept) - dropped["listed as validation or test"] - len(entries)
    with replacing(options.out / "index.json") as at:
        at.write_text(json.dumps([asdict(entry) for entry in entries]))
    print(report(entries))
    print(f"{len(entries)} of {len(decoded.entries)} decoded sounds; left out: {dict(dropped)}")
    print(f"not decoded: {len(decoded.failures)}")
    for failure in decoded.failures.values():
        print(" ", failure)


if __name__ == "__main__":
    main()
