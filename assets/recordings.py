"""Select, check, split and encode the recordings from which the data set `scenes` mixes its clips.

    python assets/sources.py --into raw          # once: download and unpack the packages
    python assets/recordings.py --raw raw        # rewrites src/otoscope/datasets/scenes_data/

Rules:

- Labels come from file names and were checked as described in `recording_rules.py`.
- Licences are CC0, public domain, MIT, CC-BY and CC-BY-SA, read for each file from the copyright file of its package.
- No recording occurs twice, also not with another gain or a slightly different beginning or end.
- A series (a numbered set, an instrument, a speaker or a kit) is in one split. If a class has too few series, its
  largest one is divided, but similar recordings are always in the same split.
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
    """One recording. The fields in COLUMNS are written to recordings.json."""

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
    """The paragraphs about files, in order. The last one that matches a file applies to it."""
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", copyright_file.read_text(encoding="utf-8")):
        fields: dict[str, str] = {}
        for name, value in re.findall(r"^([A-Z][\w-]*):((?:.*)(?:\n[ \t].*)*)", paragraph, re.MULTILINE):
            fields[name] = value.strip()
        if "Files" in fields and "License" in fields:
            lines = fields.get("Copyright", "").split("\n")
            holders = [re.sub(r"^[\d\s,-]+|\(?<[^>]*>\)?", "", line.strip()).strip(" ,") for line in lines]
            author = ", ".join(dict.fromkeys(h for h in holders if h))
            paragraphs.append(Terms(tuple(fields["Files"].split()), fields["License"].split("\n")[0].strip(), author))
    return tuple(paragraphs)


def name_in_source(sound: Sound) -> str:
    """The name of an installed sound in the source tree, as the copyright file of its package gives it."""
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
    """Licence and author of a sound, as stated by its package."""
    if sound.package == FLUID:  # a free-form copyright file
        return "MIT", "Frank Wen and contributors, Toby Smithe"
    file = sound.root / sound.package / "usr" / "share" / "doc" / sound.package / "copyright"
    name = name_in_source(sound)
    match = [t for t in terms(file) if any(fnmatchcase(name, pattern) for pattern in t.patterns)][-1]
    licence = {"CC0-1.0": "CC0", "Expat": "MIT"}.get(match.licence, match.licence)
    return licence, match.author


def candidates(raw: Path) -> list[Recording]:
    """All sounds with a free licence that match a rule, trimmed and cut, in the order of the rules."""
    sounds_of: dict[str, list[Sound]] = defaultdict(list)
    for sound in sounds(raw, PACKAGES):
        if not (sound.package == FLUID and re.search(r"\(R\)$| ?R$", sound.path)):  # the left channel is used
            sounds_of[sound.package].append(sound)
    recordings = []
    rules_with_length = [(name, "", rule, LONGEST) for name, rules in RULES.items() for rule in rules]
    rules_with_length += [
        (BACKGROUND, split, rule, BACKGROUND_SECONDS) for split, rules in BACKGROUNDS.items() for rule in rules
    ]
    for name, split, (package, pattern, series), longest in rules_with_length:
        matching = [s for s in sounds_of[package] if re.search(pattern, s.path)]
        if not matching:
            raise LookupError(f"{name}: nothing in {package} matches {pattern!r}")
        if package in VOICES:  # hundreds of prompts, of which eight are used for each language
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
            recordings.append(
                Recording(id="", class_=name, split=split, package=package, path=sound.path, licence=licence,
                          author=author, seconds=round(len(wave) / RATE, 3), sha256="",
                          group=f"{package}:{(series or stem).strip()}", wave=wave, print_=fingerprint(wave))
            )  # fmt: skip
    return recordings


def speech(prompts: Sequence[Sound]) -> list[Sound]:
    """Eight prompts of one to five seconds, spaced evenly over the list."""
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
    """Cut a wave to at most `longest` seconds, fade it and scale it to a peak of 0.9.

    A longer wave ends at the quietest 50 ms of the last third. It is faded in over 5 ms and out over 20 ms.
    """
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
    """The recordings without copies of earlier ones; copies in other classes are removed as well."""
    copies = {int(j) for _, j in near_duplicates(np.stack([r.print_ for r in recordings]), SAME)}
    return [r for i, r in enumerate(recordings) if i not in copies]


def capped(recordings: Sequence[Recording], most: int) -> list[Recording]:
    """At most `most` recordings of a class, taken from its series in turn and spaced evenly within each series."""
    groups = defaultdict(list)
    for r in recordings:
        groups[r.group].append(r)
    quota = Counter(
        itertools.islice((g for turn in range(len(recordings)) for g, m in groups.items() if turn < len(m)), most)
    )
    kept = {id(m[i * len(m) // quota[g]]) for g, m in groups.items() for i in range(quota[g])}
    return [r for r in recordings if id(r) in kept]


def clusters(recordings: Sequence[Recording]) -> list[list[Recording]]:
    """The connected components of the recordings whose fingerprints are similar."""
    parent = list(range(len(recordings)))
    for i, j in near_duplicates(np.stack([r.print_ for r in recordings]), ALIKE):
        a, b = parent[i], parent[j]
        parent = [a if p == b else p for p in parent]
    return [[r for r, p in zip(recordings, parent, strict=True) if p == root] for root in dict.fromkeys(parent)]


def divide(recordings: Sequence[Recording]) -> tuple[list[Recording], list[str]]:
    """The recordings of a class with their splits, and the names of the series that were divided between splits."""
    similar = clusters(recordings)
    names = [group for group, _ in Counter(r.group for r in recordings).most_common()]
    least = max(len(recordings) / 10, LEAST if len(recordings) >= 4 * LEAST else 2)
    for n_divided in range(len(names) + 1):
        whole = set(names[n_divided:])
        units = merged(similar, whole)
        sides = assigned([len(u) for u in units])
        counts = [sum(len(u) for u, s in zip(units, sides, strict=True) if s == k) for k in range(3)]
        if counts[1] > counts[2]:  # the larger of the two parts becomes the test split
            sides, counts = [(0, 2, 1)[s] for s in sides], [counts[0], counts[2], counts[1]]
        if min(counts[1:]) >= least and counts[0] >= 0.45 * len(recordings) and counts[0] >= max(counts[1:]):
            split = {id(r): SPLITS[s] for u, s in zip(units, sides, strict=True) for r in u}
            divided = [replace(r, split=split[id(r)]) for r in recordings]
            return divided, [n for n in names if len({r.split for r in divided if r.group == n}) > 1]
    raise ValueError(f"{recordings[0].class_}: {len(recordings)} recordings are too similar to each other to be split")


def merged(similar: Iterable[list[Recording]], whole: set[str]) -> list[list[Recording]]:
    """Clusters that share a series in `whole` are merged; the result is sorted from the largest to the smallest."""
    units: list[list[Recording]] = []
    for cluster in similar:
        series = {r.group for r in cluster} & whole
        joined = [u for u in units if series & {r.group for r in u}]
        units = [u for u in units if u not in joined] + [[r for u in joined for r in u] + cluster]
    return sorted(units, key=lambda u: (-len(u), u[0].path))


def assigned(sizes: Sequence[int]) -> list[int]:
    """The split of each unit, so that the sizes of the splits are close to SHARES.

    Up to nine units are assigned by trying every assignment; more units are assigned one by one, to the split that is
    furthest below its share.

    >>> assigned([6, 2, 2])
    [0, 1, 2]
    """
    target = np.array(SHARES) * sum(sizes)
    if len(sizes) <= 9:
        assignments = np.array(list(itertools.product(range(3), repeat=len(sizes))))
        totals = np.stack([np.where(assignments == k, sizes, 0).sum(1) for k in range(3)], axis=1)
        return [int(k) for k in assignments[np.argmin((np.square(totals - target) / target).sum(1))]]
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
    """The Ogg file with stream number 1 instead of a random one, so that encoding again gives the same bytes.

    A page has a header of 26 bytes (stream number at byte 14, checksum at byte 22), a count n, n lengths and segments.
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
    """Write the recording as Ogg Opus and return it with its id and sha256."""
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
    recordings = distinct(candidates(raw))
    chosen: list[Recording] = []
    for name in RULES:
        of_class = capped([r for r in recordings if r.class_ == name], LARGEST)
        if len(of_class) < SMALLEST:
            raise ValueError(
                f"{name}: {len(of_class)} recordings, at least {SMALLEST} are needed; remove the class or add a rule"
            )
        divided, divided_series = divide(of_class)
        counts = Counter(r.split for r in divided)
        print(f"{name:16} {' '.join(f'{counts[s]:3}' for s in SPLITS)}  divided: {', '.join(divided_series) or '-'}")
        chosen += divided
    chosen += [r for r in recordings if r.class_ == BACKGROUND]
    for folder in DATA.glob("*/"):
        if folder.is_dir():
            shutil.rmtree(folder)
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
    """The table of sources, licences and authors, which the licences require."""
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
