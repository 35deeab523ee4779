"""A plugin of pytest that lists the tests that call each function of a folder."""

from __future__ import annotations

import ast
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

Callers = dict[str, list[str]]
"""File and first line of a function, as "path:line" -> the tests that call it."""


class CallerPlugin:
    """Writes the callers of all functions of a folder to a file at the end of the session.

    A function that a fixture of several tests calls is listed for the first of them only.

    Parameters
    ----------
    folder : functions in files of this folder count.
    file : the JSON file to write.
    """

    def __init__(self, folder: Path, file: Path) -> None:
        self._folder, self._file = f"{folder}/", file
        self._tests: dict[tuple[str, int], set[str]] = {}
        self._test = ""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._test, before = item.nodeid, sys.gettrace()
        threading.settrace(self._trace)
        sys.settrace(self._trace)
        try:
            return (yield)
        finally:
            sys.settrace(before)
            threading.settrace(before)  # type: ignore[arg-type]

    def pytest_sessionfinish(self) -> None:
        text = {f"{path}:{line}": sorted(tests) for (path, line), tests in self._tests.items()}
        self._file.write_text(json.dumps(text), encoding="utf-8")

    def _trace(self, frame: FrameType, event: str, argument: object) -> None:  # noqa: ARG002
        code = frame.f_code
        if code.co_filename.startswith(self._folder):
            key = code.co_filename[len(self._folder) :], code.co_firstlineno
            self._tests.setdefault(key, set()).add(self._test)


def function_at(code: str, line: int) -> int | None:
    """First line, decorators included, of the innermost function with this line in its body; None outside of all."""
    found: list[int] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef) and node.body[0].lineno <= line <= (node.end_lineno or 0):
            found.append(min(part.lineno for part in (node, *node.decorator_list)))
    return max(found, default=None)
