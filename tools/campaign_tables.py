"""Random changes of tables: each is read or refused with one line, and none takes long.

    python tools/campaign_tables.py 5000 [SEED]

The tables are CSV, TSV, JSON Lines and Parquet with clips, parts of files and events, in several encodings.
"""

from __future__ import annotations

import io
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import soundfile

from otoscope.datasets.sources import FileDataset

SECONDS = 10.0
"""Longest time in which a changed table may be read or refused."""
_TEXTS = (
    "", " ", '"', "'", ";", ",", "\t", "|", "\n", "\r", "\\", "\x00", "\ufeff", "é", "–", "-", "--help", "nan", "inf",
    "-1", "1e999", "0,5", "1;2", "[", "]", '["dog"', "{}", "null", "../../etc/passwd", r"C:\data\a.wav", "/a.wav", "~",
    "train", "test", "path", "label", "start", "end", "onset", "offset", "duration", "fold", "split", "9" * 400, "𝄞",
    "#", "# a comment\n", "#,", "0:00:05", "1:02", "0:61",
)  # fmt: skip
_OPTIONS = ({}, {}, {"on_bad": "skip"}, {"window": 0.1}, {"crop": 0.1, "on_bad": "skip"}, {"kind": "multi-label"})


def main() -> int:
    """Run the campaign and print its counts; the exit status is 1 where a table is neither read nor refused clearly."""
    cases, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory() as folder:
        counts, notes = run(Path(folder), cases, seed)
    print(", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())))
    print(*notes, sep="\n")
    return int(bool(notes))


def run(folder: Path, cases: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Change tables at random and read them.

    Parameters
    ----------
    folder : an empty folder.
    cases : number of changed tables.
    seed : seed of the changes.

    Returns
    -------
    counts : number of tables that were read, that were refused, and that caused another error.
    notes : a line for each table that caused another error, a message that is not clear, or took too long.
    """
    rng = random.Random(seed)
    write_audio(folder)
    originals = list(tables())
    counts: Counter[str] = Counter()
    notes = []
    for case in range(cases):
        suffix, content = rng.choice(originals)
        path = folder / f"table{suffix}"
        path.write_bytes(change(content, rng))
        start = time.monotonic()
        outcome, note = read(path, rng.choice(_OPTIONS))
        counts[outcome] += 1
        if time.monotonic() - start > SECONDS:
            note = f"took {time.monotonic() - start:.1f} s"
        if note:
            notes.append(f"case {case} of seed {seed}, {suffix}: {note}")
    return counts, notes


def write_audio(folder: Path) -> None:
    """Write the eight audio files that the tables name."""
    for number in range(8):
        wave = np.random.default_rng(number).uniform(-0.5, 0.5, 2000).astype(np.float32)
        soundfile.write(folder / f"{number}.wav", wave, 8000)


def tables() -> Iterator[tuple[str, bytes]]:
    """The suffix and the content of each table."""
    clips = [
        {"path": f"{n}.wav", "label": ("dog", "cat;dog")[n % 2], "fold": n % 3, "speaker": f"s{n}"} for n in range(8)
    ]
    parts = [{"file": f"{n}.wav", "species": ("öwl", "wren")[n % 2], "start": "0,05", "end": "0,2"} for n in range(8)]
    events = [{"path": f"{n}.wav", "onset": 0.1, "duration": 0.05, "label": ("dog", "cat")[n % 2]} for n in range(8)]
    splits = [{"audio": f"{n}.wav", "class": str(n % 2), "split": ("train", "test")[n // 5]} for n in range(8)]
    classes = [{"path": f"{n}.wav", "dog": n % 2, "cat": (n + 1) % 2, "rain": int(n > 5)} for n in range(8)]
    clocks = [
        {"path": f"{n}.wav", "start": "0:00:00.05", "end": "00:00.2", "label": ("a", "b")[n % 2]} for n in range(8)
    ]
    for rows in (clips, parts, events, splits, classes, clocks):
        for suffix, mark in ((".csv", ","), (".csv", ";"), (".tsv", "\t"), (".txt", "|")):
            lines = [["# by Ann"], list(rows[0]), *(row.values() for row in rows)][rows is clips or mark != "|" :]
            text = "\n".join(
                mark.join(f'"{value}"' if mark in str(value) else str(value) for value in line) for line in lines
            )
            for encoding in ("utf-8", "utf-8-sig", "cp1252", "utf-16"):
                yield suffix, text.encode(encoding)
        yield ".jsonl", "\n".join(json.dumps(row) for row in rows).encode()
        packed = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), packed)
        yield ".parquet", packed.getvalue()


def change(content: bytes, rng: random.Random) -> bytes:
    """Change a table in one to four places."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data) + 1)
        end = min(len(data), place + rng.choice((1, 1, 8, 64)))
        kind = rng.randrange(6)
        if kind == 0:
            data[place:end] = b""
        elif kind == 1:
            data[place:place] = rng.choice(_TEXTS).encode()
        elif kind == 2:
            data[place:end] = rng.randbytes(end - place)
        elif kind == 3:
            data[place:place] = data[place:end] * rng.choice((1, 3, 50))
        elif kind == 4:
            del data[place:]
        else:
            lines = bytes(data).split(b"\n")
            rng.shuffle(lines)
            data = bytearray(b"\n".join(lines))
    return bytes(data)


def read(path: Path, options: dict[str, object]) -> tuple[str, str]:
    """Read a table as a data set; return "read", "refused" or "failed", and what is wrong with it, or ""."""
    try:
        dataset = FileDataset(path=str(path), **options)  # type: ignore[arg-type]
        for split in dataset.splits:
            for clip in dataset.clips(split):
                _ = clip.audio
        return "read", "" if isinstance(dataset.remarks, tuple) else "remarks are no tuple"
    except (ValueError, OSError) as error:
        text = str(error)
        first, *others = text.split("\n")
        listed = all(line.startswith("  ") for line in others)  # the problems, one a line
        return "refused", "" if 10 < len(first) < 2000 and listed else f"unclear message {text[:300]!r}"
    except Exception as error:  # another error is a fault
        return "failed", f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main())
