"""Dataclasses of the core packages: their values cannot be changed, and which of them need names for their values."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

CHANGED = {"_Request", "Part", "Group", "Slot"}
"""Dataclasses of objects that change."""
KEYWORDS = {"TrainingConfig", "Coverage", "Record", "Protocol"}
KEYWORDS |= {"Views", "ValidationCut", "Sampling", "SearchSettings", "TrainingSettings"}
"""Dataclasses whose values must be named."""
WITHOUT_EQUALITY = {"_Request", "FittedProbe", "Standardiser", "Screening"}
"""Dataclasses whose instances are equal only to themselves, because they contain tensors or are keys of a set."""


def dataclasses_of(package: str) -> Iterator[type]:
    path = getattr(importlib.import_module(package), "__path__", ())
    names = [package, *(found.name for found in pkgutil.walk_packages(path, f"{package}."))]
    for name in names:
        if "triton" not in name:
            for value in vars(importlib.import_module(name)).values():
                if inspect.isclass(value) and value.__module__ == name and dataclasses.is_dataclass(value):
                    yield value


@pytest.mark.parametrize("package", ["bank", "bench.plan", "metrics", "ops", "results", "train"])
def test_dataclasses_are_frozen_and_compared_by_value_with_few_exceptions(package: str) -> None:
    found = list(dataclasses_of(f"otoscope.{package}"))
    assert found
    for kind in found:
        name, first = kind.__name__, dataclasses.fields(kind)[0]
        frozen = any("__delattr__" in vars(base) for base in kind.__mro__[:-1])
        assert frozen is (name not in CHANGED), name
        assert first.kw_only is (name in KEYWORDS), name
        assert (kind.__eq__ is object.__eq__) is (name in WITHOUT_EQUALITY), name
