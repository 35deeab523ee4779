"""A short form of the campaign on tables in tools/, and a fault that it must notice."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from otoscope.datasets.sources import FileDataset

TOOLS = Path(__file__).parent.parent / "tools"


@pytest.fixture
def campaign(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The module of the campaign."""
    pytest.importorskip("pyarrow")
    monkeypatch.syspath_prepend(TOOLS)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return importlib.import_module("campaign_tables")


def test_unchanged_tables_are_read(tmp_path: Path, campaign: ModuleType) -> None:
    campaign.write_audio(tmp_path)
    for number, (suffix, content) in enumerate(campaign.tables()):
        path = tmp_path / f"{number}{suffix}"
        path.write_bytes(content)
        assert campaign.read(path, {}) == ("read", ""), content


def test_changed_tables_are_read_or_refused_with_one_line(tmp_path: Path, campaign: ModuleType) -> None:
    counts, notes = campaign.run(tmp_path, 150, 0)
    assert notes == []
    assert counts["read"] > 10
    assert counts["refused"] > 10
    assert counts.total() == 150


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("x"), ValueError("no such file:\nx")])
def test_the_campaign_notices_tracebacks_and_unclear_messages(
    tmp_path: Path, campaign: ModuleType, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(_: FileDataset) -> None:
        raise error

    monkeypatch.setattr(FileDataset, "read", fail)
    assert len(campaign.run(tmp_path, 5, 0)[1]) == 5
