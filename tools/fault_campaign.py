"""The fault campaign: disturb extraction, suites and fine-tuning, and count what goes wrong.

    python tools/fault_campaign.py                  a short form, about half a minute
    python tools/fault_campaign.py --kills 200 --damages 300 --audio 5000 --workers 3      the long form

For each fault it counts the cases; finished shards, records and trials that were lost; results that differ from those
of an undisturbed run, without a message; and errors that have no clear message of one line. All three must be 0. It
needs Linux and Optuna, and as root it also fills a small disk. `docs/reliability.md` lists what was counted.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from campaign_faults import WORKS, Campaign, Count

HEADER = "| fault | cases | lost | different | unclear |\n|---|---|---|---|---|"


def run(folder: Path, *, kills: int, damages: int, audio: int, workers: int, seed: int) -> Iterator[Count]:
    """Run the campaign.

    Parameters
    ----------
    folder : an empty folder.
    kills : number of kills.
    damages : number of damaged files.
    audio : number of changed audio files.
    workers : number of worker processes that are killed.
    seed : seed of the random numbers.

    Yields
    ------
    The counts of each fault.
    """
    torch.set_num_threads(1)  # a forked process has no other threads to wait for
    campaign = Campaign(folder, seed)
    few, parts = max(1, kills // 20), [max(1, kills * share // 10) for share in (3, 4, 2)]
    faults: list[Callable[[], Count]] = [partial(campaign.kills, *pair) for pair in zip(WORKS, parts, strict=True)]
    faults += [partial(campaign.kills, "bench", max(1, kills // 10), clock=True)]
    faults += [partial(campaign.two_processes, few)]
    for name in WORKS:
        faults += [partial(campaign.limits, name, few), partial(campaign.full_disk, name, few)]
        faults += [partial(campaign.read_only, name)]
    faults += [partial(campaign.damages, name, max(1, damages // 2)) for name in ("extract", "bench")]
    faults += [partial(campaign.dead_workers, workers)] if workers else []
    faults += [partial(campaign.audio, audio)]
    for fault in faults:
        yield fault()


def row(count: Count) -> str:
    """The counts as a row of a table in Markdown."""
    return f"| {count.fault} | {count.cases:,} | {count.lost} | {count.different} | {count.unclear} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign, print the counts, and return 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("kills", 20), ("damages", 20), ("audio", 100), ("workers", 0), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args(argv)
    notes: list[str] = []
    print(HEADER)
    with tempfile.TemporaryDirectory(prefix="otoscope-campaign-") as folder:
        os.chmod(folder, 0o755)
        for count in run(Path(folder), **vars(arguments)):
            print(row(count), flush=True)
            notes += [f"{count.fault}: {note}" for note in count.notes]
    print(*notes, sep="\n")
    return int(bool(notes))


if __name__ == "__main__":
    sys.exit(main())
