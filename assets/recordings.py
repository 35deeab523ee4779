"""Selects, checks, splits and encodes the real recordings from which the data set `scenes` mixes its clips.

    python assets/sources.py --into raw          # once: download and unpack the packages
    python assets/recordings.py --raw raw        # rewrites src/otoscope/datasets/scenes_data/

What it holds to:
- labels come from file names, checked as `recording_rules.py` says;
- only CC0, public domain, MIT, CC-BY and CC-BY-SA, read file by file from the packages' own copyright files;
- no recording comes twice, not even at another gain or cut a little differently;
- a series (one numbered set, one instrument, one speaker, one kit) stays on one side of the split; where a class has
  too few series for that its largest one is divided, but never between recordings that resemble each other.
"""

import argparse
import hashlib
import io
import itertools
import json
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

from recording_rules import (
    BACKGROUND,
    BACKGROUND_SECONDS,
    BACKGROUNDS,
    FLUID,
    HYDROGEN,
    PACKAGES,
    RULES,
    SONIC,
    TEST,
    UFO,
    VOICES,
)
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

DATA = Path(__file__).parent.parent / "src" / "otoscope" / "datasets" / "scenes_data"
SPLITS = ("train", "validation", "test")
SHARES = (0.6, 0.2, 0.2)
LEAST = 3  # recordings of every class in validation and in test, 2 for a class of 10 or 11
SMALLEST, LARGEST = 10, 40  # recordings of a class
SHORTEST, LONGEST = 0.1, 4.0  # seconds
COMPRESSION = 0.9  # about 38 kbit/s
COLUMNS = ["id", "class_", "split", "package", "path", "licence", "author", "seconds", "sha256", "group"]
FREE = {"CC0", "public-domain", "MIT", "CC-BY-3.0", "CC-BY-SA-3.0", "CC-BY-SA-3.0-us"}


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One recording; COLUMNS of it make recordings.json."""

    id: str
    class_: str
    split: str
    package: str
    path: str
    licence: str
    author: str
    seconds: float
    sha256: str
    group: str
    wave: Wave = field(repr=False, compare=False)
    print_: Wave = field(repr=False, compare=False)


@dataclass(frozen=True)
class Terms:
    """One paragraph of a machine-readable copyright file (https://dep-team.pages.debian.net/deps/dep5/)."""

    patterns: tuple[str, ...]
    licence: str
    author: str


@lru_cache
def terms(copyright_file: Path) -> tuple[Terms, ...]:
    """The paragraphs about files, in order: the last that matches a file holds for it."""
    found = []
    for paragraph in re.split(r"\n\s*\n", copyright_file.read_text(encoding="utf-8")):
        fields: dict[str, str] = {}
        for name, value in re.findall(r"^([A-Z][\w-]*):((?:.*)(?:\n[ \t].*)*)", paragraph, re.MULTILINE):
            fields[name] = value.strip()
        if "Files" in fields and "License" in fields:
            lines = fields.get("Copyright", "").split("\n")
            holders = [re.sub(r"^[\d\s,-]+|\(?<[^>]*>\)?", "", line.strip()).strip(" ,") for line in lines]
            author = ", ".join(dict.fromkeys(h for h in holders if h))
            found.append(Terms(tuple(fields["Files"].split()), fields["License"].split("\n")[0].strip(), author))
    return tuple(found)


def name_in_source(sound: Sound) -> str:
    """The name that the package's copyright file, written for the source tree, uses for an installed sound."""
    file, _, member = sound.path.partition("!")
    if sound.package == UFO:
        return f"base/{member}"
    if sound.package == SONIC:
        return f"etc/samples/{Path(file).name}"
    if sound.package == TEST:
        return "mtg/" + file[file.index("mods/") :]
    if sound.package == HYDROGEN:
        kit = Path(file).parent.name
        return f"drumkits/{kit.removesuffix(' v4')}.h2drumkit"
    if sound.package in VOICES:
        return f"{sound.package.split('-')[3]}-{Path(file).name}"
    return file


def licence_of(sound: Sound) -> tuple[str, str]:
    """(licence, author) of one sound, as the package states them."""
    if sound.package == FLUID:  # a free-form copyright file
        return "MIT", "Frank Wen and contributors, Toby Smithe"
    file = sound.root / sound.package / "usr" / "share" / "doc" / sound.package / "copyright"
    name = name_in_source(sound)
    match = [t for t in terms(file) if any(fnmatchcase(name, pattern) for pattern in t.patterns)][-1]
    licence = {"CC0-1.0": "CC0", "Expat": "MIT"}.get(match.licence, match.licence)
    return licence, match.author


def sobol_points(raw: Path) -> list[Recording]:
    """Every sound that a rule names and whose licence is free, trimmed and cut, in the order of the rules."""
    everything: dict[str, list[Sound]] = defaultdict(list)
    for sound in sounds(raw, PACKAGES):
        if not (sound.package == FLUID and re.search(r"\(R\)$| ?R$", sound.path)):  # the left channel will do
            everything[sound.package].append(sound)
    found = []
    jobs = [(name, "", rule, LONGEST) for name, rules in RULES.items() for rule in rules]
    jobs += [(BACKGROUND, split, rule, BACKGROUND_SECONDS) for split, rules in BACKGROUNDS.items() for rule in rules]
    for name, split, (package, pattern, series), longest in jobs:
        matching = [s for s in everything[package] if re.search(pattern, s.path)]
        if not matching:
            raise LookupError(f"{name}: nothing in {package} matches {pattern!r}")
        if package in VOICES:  # hundreds of prompts: eight of each language, evenly over the alphabet
            matching = speech(matching)
        for sound in matching:
            licence, author = licence_of(sound)
            if licence not in FREE:
                continue
            try:
                wave = cut(trim(at_16k(*sound.read()), -50.0), longest)
            except UnreadableSoundError:
                continue
            if len(wave) < SHORTEST * RATE:
                continue
            stem = re.sub(r"[\d.]+[ab]?$", "", Path(sound.path.partition("!")[2] or sound.path).with_suffix("").name)
            found.append(
                Recording(id="", class_=name, split=split, package=package, path=sound.path, licence=licence,
                          author=author, seconds=round(len(wave) / RATE, 3), sha256="",
                          group=f"{package}:{(series or stem).strip()}", wave=wave, print_=fingerprint(wave))
            )  # fmt: skip
    return found


def speech(prompts: Sequence[Sound]) -> list[Sound]:
    """Eight prompts of one to five seconds, evenly over the list."""
    good = []
    for sound in prompts[:: max(1, len(prompts) // 24)]:
        try:
            wave, rate = sound.read()
        except UnreadableSoundError:
            continue
        if 1.0 <= len(wave) / rate <= 5.0:
            good.append(sound)
    return good[:: max(1, len(good) // 8)][:8]


def cut(wave: Wave, longest: float) -> Wave:
    """At most `longest` seconds, ended at the quietest 50 ms of the last third, with 5 ms and 20 ms fades; peak 0.9."""
    limit = int(longest * RATE)
    if len(wave) > limit:
        start, hop = 2 * limit // 3, RATE // 20
        level = [float(np.square(wave[i : i + hop]).mean()) for i in range(start, limit - hop, hop)]
        wave = wave[: start + int(np.argmin(level)) * hop + hop]
    if not len(wave):
        return wave
    rise, fall = min(80, len(wave) // 4), min(320, len(wave) // 4)
    shape = np.ones(len(wave), np.float32)
    shape[:rise] = np.linspace(0, 1, rise)
    shape[-fall:] = np.linspace(1, 0, fall)
    return np.asarray(wave * shape * (0.9 / np.abs(wave).max()), dtype=np.float32)


def distinct(recordings: Sequence[Recording]) -> list[Recording]:
    """The recordings without every later copy of an earlier one, whatever their classes."""
    copies = {int(j) for _, j in near_duplicates(np.stack([r.print_ for r in recordings]), SAME)}
    return [r for i, r in enumerate(recordings) if i not in copies]


def capped(recordings: Sequence[Recording], most: int) -> list[Recording]:
    """At most `most` of one class, taken from its series in turn and evenly along each."""
    groups = defaultdict(list)
    for r in recordings:
        groups[r.group].append(r)
    quota = Counter(
        itertools.islice((g for turn in range(len(recordings)) for g, m in groups.items() if turn < len(m)), most)
    )
    kept = {id(m[i * len(m) // quota[g]]) for g, m in groups.items() for i in range(quota[g])}
    return [r for r in recordings if id(r) in kept]


def clusters(recordings: Sequence[Recording]) -> list[list[Recording]]:
    """Recordings that resemble each other, directly or through others, together."""
    parent = list(range(len(recordings)))
    for i, j in near_duplicates(np.stack([r.print_ for r in recordings]), ALIKE):
        a, b = parent[i], parent[j]
        parent = [a if p == b else p for p in parent]
    return [[r for r, p in zip(recordings, parent, strict=True) if p == root] for root in dict.fromkeys(parent)]


def divide(recordings: Sequence[Recording]) -> tuple[list[Recording], list[str]]:
    """The recordings of one class with their splits, and the series that had to be divided between splits."""
    alike = clusters(recordings)
    names = [group for group, _ in Counter(r.group for r in recordings).most_common()]
    least = max(len(recordings) / 10, LEAST if len(recordings) >= 4 * LEAST else 2)
    for broken in range(len(names) + 1):
        whole = set(names[broken:])
        units = merged(alike, whole)
        sides = assigned([len(u) for u in units])
        counts = [sum(len(u) for u, s in zip(units, sides, strict=True) if s == k) for k in range(3)]
        if counts[1] > counts[2]:  # the test split gets the larger half of what is held out
            sides, counts = [(0, 2, 1)[s] for s in sides], [counts[0], counts[2], counts[1]]
        if min(counts[1:]) >= least and counts[0] >= 0.45 * len(recordings) and counts[0] >= max(counts[1:]):
            split = {id(r): SPLITS[s] for u, s in zip(units, sides, strict=True) for r in u}
            done = [replace(r, split=split[id(r)]) for r in recordings]
            return done, [n for n in names if len({r.split for r in done if r.group == n}) > 1]
    raise ValueError(f"{recordings[0].class_}: {len(recordings)} recordings resemble each other too much to be split")


def merged(alike: Iterable[list[Recording]], whole: set[str]) -> list[list[Recording]]:
    """Clusters joined wherever they share one of the series that stay whole, largest first."""
    units: list[list[Recording]] = []
    for cluster in alike:
        series = {r.group for r in cluster} & whole
        joined = [u for u in units if series & {r.group for r in u}]
        units = [u for u in units if u not in joined] + [[r for u in joined for r in u] + cluster]
    return sorted(units, key=lambda u: (-len(u), u[0].path))


def assigned(sizes: Sequence[int]) -> list[int]:
    """A side for each unit, closest to SHARES: every way is tried for few units, else each goes where most is missing.

    >>> assigned([6, 2, 2])
    [0, 1, 2]
    """
    target = np.array(SHARES) * sum(sizes)
    if len(sizes) <= 9:
        ways = np.array(list(itertools.product(range(3), repeat=len(sizes))))
        totals = np.stack([np.where(ways == k, sizes, 0).sum(1) for k in range(3)], axis=1)
        return [int(k) for k in ways[np.argmin((np.square(totals - target) / target).sum(1))]]
    sides, total = [], np.zeros(3)
    for size in sizes:
        side = int(np.argmax((target - total) / target))
        total[side] += size
        sides.append(side)
    return sides


@lru_cache
def crc_table() -> tuple[int, ...]:
    """The checksum of each byte under Ogg's polynomial (RFC 3533, section 6)."""
    table = []
    for value in range(256):
        rest = value << 24
        for _ in range(8):
            rest = (rest << 1) ^ (0x104C11DB7 if rest & 0x80000000 else 0)
        table.append(rest)
    return tuple(table)


def same_serial(ogg: bytes) -> bytes:
    """The Ogg file with stream number 1 in place of a random one, so that encoding again gives the same bytes.

    A page is 26 bytes of header (the stream number at 14, the checksum at 22), a count n, n lengths, and the segments.
    """
    pages, at = bytearray(), 0
    while at < len(ogg):
        segments = ogg[at + 26]
        size = 27 + segments + sum(ogg[at + 27 : at + 27 + segments])
        page = bytearray(ogg[at : at + size])
        page[14:18], page[22:26] = (1).to_bytes(4, "little"), bytes(4)
        crc, table = 0, crc_table()
        for byte in page:
            crc = (crc << 8 & 0xFFFFFFFF) ^ table[crc >> 24 ^ byte]
        page[22:26] = crc.to_bytes(4, "little")
        pages += page
        at += size
    return bytes(pages)


def written(recording: Recording, number: int, folder: Path) -> Recording:
    """The recording with its id and sha256, its file written as Ogg Opus."""
    name = f"{recording.class_}-{number:02d}"
    file = folder / recording.class_ / f"{name}.ogg"
    file.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    soundfile.write(buffer, recording.wave, RATE, format="OGG", subtype="OPUS", compression_level=COMPRESSION)
    file.write_bytes(same_serial(buffer.getvalue()))
    return replace(recording, id=name, sha256=hashlib.sha256(file.read_bytes()).hexdigest())


def main() -> None:
    """Rewrite the recordings, recordings.json and ATTRIBUTION.md of the data set `scenes`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--raw", type=Path, required=True, help="folder of unpacked packages")
    raw: Path = parser.parse_args().raw
    found = distinct(sobol_points(raw))
    chosen: list[Recording] = []
    for name in RULES:
        mine = capped([r for r in found if r.class_ == name], LARGEST)
        if len(mine) < SMALLEST:
            raise ValueError(f"{name}: {len(mine)} recordings left, {SMALLEST} needed; drop the class or add a rule")
        done, broken = divide(mine)
        counts = Counter(r.split for r in done)
        print(f"{name:16} {' '.join(f'{counts[s]:3}' for s in SPLITS)}  divided: {', '.join(broken) or '-'}")
        chosen += done
    chosen += [r for r in found if r.class_ == BACKGROUND]
    for old in DATA.glob("*/"):
        if old.is_dir():
            shutil.rmtree(old)
    numbers: Counter[str] = Counter()
    shipped = []
    for r in chosen:
        shipped.append(written(r, numbers[r.class_], DATA))
        numbers[r.class_] += 1
    rows = [{"class" if c == "class_" else c: getattr(r, c) for c in COLUMNS} for r in shipped]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (DATA / "recordings.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    (DATA / "ATTRIBUTION.md").write_text(attribution(shipped), encoding="utf-8")
    size = sum(f.stat().st_size for f in DATA.rglob("*.ogg"))
    print(f"{len(shipped)} recordings, {sum(r.seconds for r in shipped) / 60:.1f} min, {size / 1e6:.2f} MB")


def attribution(recordings: Sequence[Recording]) -> str:
    """The table of sources that the licences ask for."""
    head = (
        "# Where the recordings of `scenes` come from\n\n"
        "Written by `assets/recordings.py`. Each recording was averaged to one channel, resampled to 16 kHz, trimmed,\n"
        "cut to a few seconds, faded, scaled to a common peak and encoded as Ogg Opus; that is what was changed.\n"
        "Packages are those of Debian; licence and author are as the package's copyright file states them.\n"
        "Recordings under CC-BY-SA stay under it. Licence texts: <https://creativecommons.org/licenses/by-sa/3.0/>,\n"
        "<https://creativecommons.org/licenses/by-sa/3.0/us/>, <https://creativecommons.org/licenses/by/3.0/>,\n"
        "<https://creativecommons.org/publicdomain/zero/1.0/>, <https://opensource.org/license/mit>.\n\n"
        "| id | package | path | licence | author |\n|---|---|---|---|---|\n"
    )
    return head + "".join(f"| {r.id} | {r.package} | {r.path} | {r.licence} | {r.author} |\n" for r in recordings)


if __name__ == "__main__":
    main()
