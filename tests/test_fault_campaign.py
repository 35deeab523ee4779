"""A short form of the fault campaign in tools/, and faults that it must notice."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

TOOLS = Path(__file__).parent.parent / "tools"

pytestmark = [
    pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="the campaign needs Linux"),
    pytest.mark.usefixtures("isolated_registries", "needs_optuna"),
]


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module with the faults, on one thread."""
    monkeypatch.syspath_prepend(TOOLS)
    importlib.reload(importlib.import_module("campaign_work"))  # registers its plug-ins for this test
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a forked process has no other threads to wait for
    yield importlib.reload(importlib.import_module("campaign_faults"))
    torch.set_num_threads(threads)


def test_nothing_is_lost_or_different_and_every_error_is_clear(tmp_path: Path, faults: ModuleType) -> None:
    tmp_path.chmod(0o755)
    campaign = faults.Campaign(tmp_path, 0, ("extract", "bench"))
    counts = [
        campaign.kills("extract", 3),
        campaign.kills("bench", 3),
        campaign.kills("extract", 1, clock=True),
        campaign.two_processes(1),
        campaign.limits("extract", 2),
        campaign.limits("bench", 1),
        campaign.damages("extract", 3),
        campaign.damages("bench", 3),
        campaign.audio(50),
    ]
    assert [count.cases for count in counts] == [3, 3, 1, 1, 2, 1, 3, 3, 50]
    assert [note for count in counts for note in count.notes] == []
    assert sum(count.lost + count.different + count.unclear for count in counts) == 0


def test_the_campaign_notices_lost_and_different_work(
    tmp_path: Path, faults: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)  # starts from nothing each time
        (folder / "bank/train").mkdir(parents=True)
        for number in range(200):
            (folder / f"bank/train/shard-{number}.safetensors").write_bytes(os.urandom(8))

    monkeypatch.setitem(faults.WORKS, "extract", careless)
    count = faults.Campaign(tmp_path, 0, ("extract",)).kills("extract", 3)
    assert count.lost > 0
    assert count.different > 0


@pytest.mark.parametrize(
    ("error", "clear"),
    [
        ("ValueError: the file a.wav is damaged; repair it", True),
        ("KeyError: 'seconds'", False),
        ("ValueError: two\nlines", False),
        ("the process ended with the status -11", False),
    ],
)
def test_an_error_is_clear_if_the_command_line_prints_it_as_one_line(
    faults: ModuleType, error: str, clear: bool
) -> None:
    count = faults.Count("a fault")
    count.error(error)
    assert (count.unclear, len(count.notes)) == ((0, 0) if clear else (1, 1))
