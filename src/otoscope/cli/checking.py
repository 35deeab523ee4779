"""The command `otoscope check`: run the contract suite of one kind of plug-in.

Imports are inside the functions, so that `--help` does not load torch.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterable, Mapping
from functools import partial
from inspect import Parameter
from typing import TYPE_CHECKING, Any

from otoscope.cli._shared_arguments import add_debug, add_option, add_plugin

if TYPE_CHECKING:
    from otoscope.contract import CheckResult, Contract
    from otoscope.registry import Registry

CHECKED = {
    "encoder": "encoders",
    "dataset": "data sets",
    "probe": "probes",
    "metric": "metrics",
    "search": "search strategies",
}
"""The kinds of plug-ins that have a contract, in words."""
PACKAGES = {
    "encoder": "encoders",
    "dataset": "datasets",
    "probe": "probes",
    "metric": "metrics",
    "search": "search",
}
"""The kinds of plug-ins that have a contract, with their packages."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a subcommand for each kind of plug-in."""
    kinds = parser.add_subparsers(title="what to check", dest="kind", metavar="KIND", required=True)
    for kind, words in CHECKED.items():
        about = f"run the contract suite on {words}"
        added = kinds.add_parser(kind, help=about, description=about[0].upper() + about[1:] + ".")
        added.add_argument(
            "names", nargs="*", metavar="NAME", help=f"only these (default: the {words} of the plug-in, or all)"
        )
        if kind in ("probe", "metric"):
            added.set_defaults(option=[])
        else:
            add_option(added, "--option", f"an option of the {words}")
        add_plugin(added)
        add_debug(added, default=argparse.SUPPRESS)  # a default here would undo `otoscope check --debug KIND`


def check(arguments: argparse.Namespace) -> int:
    """Run the contract of `arguments.kind` and print the results; the exit status is 1 where a check failed."""
    kind, options = arguments.kind, dict(arguments.option)
    registry: Registry[Any] = importlib.import_module(f"otoscope.{PACKAGES[kind]}").registry
    contract: Contract[Any] = importlib.import_module(f"otoscope.{PACKAGES[kind]}.contract").CONTRACT
    shown = arguments.names or _creatable(registry, arguments.plugin, options)
    located = [_located(kind, name, options) for name in shown]
    for name, given in located:
        _expect_options(registry, name, given)
    passed = True
    for text, (name, given) in zip(shown, located, strict=True):
        for fold in _folds(registry, name, given):
            one = f"{text}, fold {fold['fold']}" if fold else text
            results = contract.run(one, _subject(kind, registry, name, given | fold))
            _print(one, results)
            passed = passed and all(result.passed for result in results)
    return int(not passed)


def _located(kind: str, name: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The registered name and the options of a plug-in; those of an encoder may be in its name, as in hf:FOLDER."""
    from otoscope import encoders

    return encoders.locate(name, options) if kind == "encoder" else (name, options)


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


def _creatable(registry: Registry[Any], plugins: Iterable[object] | None, options: Mapping[str, Any]) -> list[str]:
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
    absent = [name for name in names if _lacks_files(registry, name, options)]
    if absent:
        print(f"not checked, their files are missing: {', '.join(absent)}")
    return [name for name in names if name not in absent]


def _lacks_files(registry: Registry[Any], name: str, options: Mapping[str, Any]) -> bool:
    """Whether the files of a named data set, or the weights of an encoder, are not on this machine."""
    if registry.kind == "dataset":
        from otoscope.datasets.catalog import NamedDataset, is_here

        cls = registry.get(name)
        return issubclass(cls, NamedDataset) and not is_here(name, cls.declaration)
    if registry.kind != "encoder":
        return False
    try:  # also with random weights, with which all named encoders would take hours
        registry.get(name).check_weights({key: value for key, value in options.items() if key != "weights"})
    except FileNotFoundError:
        return True
    return False


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
