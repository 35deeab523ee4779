"""Every benchmark, and the page that holds them all, rewritten whole: `make bench`.

python benchmarks/run_all.py                       # docs/benchmarks.md and docs/assets/, in minutes
python benchmarks/run_all.py --small --out FOLDER  # toys, elsewhere: to see that it runs
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import evaluation
import growth
import neighbours
import prototypes
import reading
import render
import screened
import trials
from measure import machine
from otoscope.files import replacing
from rows import Section

DOCS = Path(__file__).resolve().parent.parent / "docs"
PROGRAMS = (prototypes, trials, reading, growth, evaluation, neighbours, screened)
OPENING = """\
This page is written whole by `make bench`; its words are in the programs under `benchmarks/`, so change it there. Every
ratio was taken within one run: both ways once to warm up, then in turn, the median over rounds with the lowest and the
highest beside it. Times in seconds are those of this machine and of no other."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all programs, then write the page and its drawings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="toy sizes, to see that it runs; needs --out")
    parser.add_argument("--out", type=Path, default=None, help="folder of the page (default: docs/)")
    asked = parser.parse_args(arguments)
    if asked.small and asked.out is None:
        parser.error("--small measures toys, which must not become docs/benchmarks.md; name another folder with --out")
    out = asked.out or DOCS
    start = time.perf_counter()
    sections: list[Section] = []
    for program in PROGRAMS:
        print(f"{time.perf_counter() - start:5.0f} s  {program.__doc__.splitlines()[0]}", file=sys.stderr)
        sections += program.sections(asked.small)
    for drawing in (s.figure for s in sections if s.figure):
        _write(out / "assets" / drawing.name, drawing.svg)
    _write(out / "benchmarks.md", page(sections, datetime.date.today(), time.perf_counter() - start))


def page(sections: Sequence[Section], day: datetime.date, seconds: float) -> str:
    """The whole page: where and when, what was to be reached, one section after another."""
    where = f"**{machine()}**, {day.isoformat()}, {seconds / 60:.1f} minutes in all."
    targets = [t for s in sections for t in s.targets]
    missed = [t.what for t in targets if not t.reached]
    summary = f"{len(targets) - len(missed)} of {len(targets)} targets are reached" + (
        f"; not reached: {', '.join(missed)}." if missed else "."
    )
    parts = [
        "# Benchmarks",
        render.paragraphs(OPENING),
        where,
        render.paragraphs(summary),
        *map(render.section, sections),
    ]
    return "\n\n".join(parts) + "\n"


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
