"""The commands of docs/data.md print what the page says."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers_docs import ROOT
from otoscope.cli import main

PAGE = ROOT / "docs" / "data.md"
BLOCKS = re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that docs/assets/farm.py writes."""
    folder = tmp_path_factory.mktemp("examples")
    runpy.run_path(str(ROOT / "docs" / "assets" / "farm.py"))["main"](folder)
    return folder


def commands() -> Iterator[tuple[str, str]]:
    """Each command of the page with its output."""
    for block in BLOCKS:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def test_the_page_has_commands_for_every_layout() -> None:
    assert len(list(commands())) >= 10


@pytest.mark.parametrize(("command", "output"), list(commands()))
def test_commands_print_what_the_page_says(
    examples: Path, command: str, output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(examples)
    program, *arguments = shlex.split(command)
    assert program == "otoscope"
    main(arguments)
    assert capsys.readouterr().out.strip() == output.strip()
