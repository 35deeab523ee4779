"""Run every benchmark and rewrite docs/benchmarks.md: `make bench`.

python benchmarks/run_all.py                       # writes docs/benchmarks.md and docs/assets/; takes minutes
python benchmarks/run_all.py --small --out FOLDER  # tiny sizes, to check that it runs
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import decoding
import evaluation
import front_ends
import growth
import heads
import listing
import neighbours
import prototypes
import reading
import render
import screened
import trials
import untrained
from measure import machine
from otoscope.files import replacing
from rows import Section

DOCS = Path(__file__).resolve().parent.parent / "docs"
PROGRAMS = (
    prototypes,
    trials,
    reading,
    growth,
    evaluation,
    neighbours,
    screened,
    heads,
    untrained,
    front_ends,
    listing,
    decoding,
)
OPENING = """\
`make bench` writes this page; to change its text, edit the programs under `benchmarks/`. Every ratio is measured
within one run: both implementations run once to warm up and then alternately. The tables give the median over the
rounds and, in brackets, the lowest and highest value. Times in seconds hold for this machine only."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all programs, then write the page and its drawings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="tiny sizes, to check that it runs; requires --out")
    parser.add_argument("--out", type=Path, default=None, help="folder of the page (default: docs/)")
    options = parser.parse_args(arguments)
    if options.small and options.out is None:
        parser.error("--small measures tiny sizes, not for docs/benchmarks.md; give another folder with --out")
    out = options.out or DOCS
    start = time.perf_counter()
    sections: list[Section] = []
    for program in PROGRAMS:
        print(f"{time.perf_counter() - start:5.0f} s  {program.__doc__.splitlines()[0]}", file=sys.stderr)
        sections += program.sections(options.small)
    for drawing in (s.figure for s in sections if s.figure):
        _write(out / "assets" / drawing.name, drawing.svg)
    _write(out / "benchmarks.md", page(sections, datetime.date.today(), time.perf_counter() - start))


def page(sections: Sequence[Section], day: datetime.date, seconds: float) -> str:
    """Render the whole page: machine, date, targets, then one section after another."""
    where = f"**{machine()}**, {day.isoformat()}, {seconds / 60:.1f} minutes in total."
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
