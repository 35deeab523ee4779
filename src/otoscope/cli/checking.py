"""The command `otoscope check`: run the contract suite of one kind of plug-in.

Imports are inside the functions, so that `--help` does not load torch.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterable
from functools import partial
from inspect import Parameter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otoscope.contract import CheckResult, Contract
    from otoscope.registry import Registry

PACKAGES = {
    "encoder": "encoders",
    "dataset": "datasets",
    "probe": "probes",
    "metric": "metrics",
    "search": "search",
}
"""The kinds of plug-ins that have a contract, with their packages."""


def check(arguments: argparse.Namespace) -> int:
    """Run the contract of `arguments.kind` and print the results; the exit status is 1 where a check failed."""
    kind, options = arguments.kind, dict(arguments.option)
    registry: Registry[Any] = importlib.import_module(f"otoscope.{PACKAGES[kind]}").registry
    contract: Contract[Any] = importlib.import_module(f"otoscope.{PACKAGES[kind]}.contract").CONTRACT
    names = arguments.names or _creatable(registry, arguments.plugin, options)
    for name in names:
        _expect_options(registry, name, options)
    passed = True
    for name in names:
        for fold in _folds(registry, name, options):
            one = f"{name}, fold {fold['fold']}" if fold else name
            results = contract.run(one, _subject(kind, registry, name, options | fold))
            _print(one, results)
            passed = passed and all(result.passed for result in results)
    return int(not passed)


def _subject(kind: str, registry: Registry[Any], name: str, options: dict[str, Any]) -> Any:
    """Return the argument of the contract of this kind: a name, a search specification or a constructor."""
    if kind in ("probe", "metric"):
        return name
    if kind == "search":
        from otoscope.search import SearchSpec

        return SearchSpec(name, options)
    return partial(registry.create, name, **options)


def _folds(registry: Registry[Any], name: str, options: Iterable[str]) -> list[dict[str, Any]]:
    """Return the option `fold` for each fold that a data set declares; no option for other plug-ins."""
    declared = () if "fold" in options else getattr(registry.get(name), "declared_folds", ())
    return [{"fold": fold} for fold in declared] or [{}]


def _creatable(registry: Registry[Any], plugins: Iterable[object] | None, options: Iterable[str]) -> list[str]:
    """Return the names of the plug-ins in the given files, or of all plug-ins that `options` can create."""
    from otoscope.registry import PLUGIN_PREFIX

    names = registry.names()
    if plugins:
        names = [name for name in names if registry.get(name).__module__.startswith(PLUGIN_PREFIX)]
        if not names:
            files = ", ".join(map(str, plugins))
            raise ValueError(f"{files} registers no {registry.kind}; check another kind, or give a name")
        return names
    for name in names:
        for option in _missing(registry, name, options):
            print(f"{name}: not checked, it needs --option {option}=VALUE")
    names = [name for name in names if not _missing(registry, name, options)]
    return _on_this_machine(registry, names) if registry.kind == "dataset" else names


def _on_this_machine(registry: Registry[Any], names: list[str]) -> list[str]:
    """The data sets whose files are not missing."""
    from otoscope.datasets.catalog import NamedDataset, is_here

    named = [name for name in names if issubclass(registry.get(name), NamedDataset)]
    absent = [name for name in named if not is_here(name, registry.get(name).declaration)]
    if absent:
        print(f"not checked, their files are missing: {', '.join(absent)}")
    return [name for name in names if name not in absent]


def _missing(registry: Registry[Any], name: str, options: Iterable[str]) -> list[str]:
    """Return the options without a default that are not among `options`."""
    declared = registry.options(name).items()
    given = {*options, *_folds(registry, name, options)[0]}
    return [key for key, option in declared if option.default is Parameter.empty and key not in given]


def _expect_options(registry: Registry[Any], name: str, options: Iterable[str]) -> None:
    registry.check_options(name, options)
    missing = _missing(registry, name, options)
    if missing:
        needed = " ".join(f"--option {option}=VALUE" for option in missing)
        raise ValueError(f"{registry.kind} {name!r} has options without a default; add {needed}")


def _print(name: str, results: list[CheckResult]) -> None:
    failed = sum(not result.passed for result in results)
    print(f"{name}: {len(results) - failed if failed else 'all'} of {len(results)} checks passed")
    outcomes = dict.fromkeys((result.passed, result.message) for result in results if result.message)
    for passed, message in outcomes:  # checks with the same outcome share a line
        checks = [result.check for result in results if (result.passed, result.message) == (passed, message)]
        print(f"  {', '.join(checks)}{'' if passed else ' failed'}: {message}")
