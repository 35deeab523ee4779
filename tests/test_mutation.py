"""The mutation tests: which tests cover which module, and the faults that are planted."""

from __future__ import annotations

import ast
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Makes the modules in tools/ importable for one test."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(ROOT / "tools")
    yield
    for name in {"callers", "faults", "mutation", "mutation_tests"} & set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def faults(tools: None) -> ModuleType:  # noqa: ARG001
    pytest.importorskip("cosmic_ray", reason="the extra `mutation` (Cosmic Ray) is not installed")
    import faults

    return faults


@pytest.fixture
def mutation(tools: None) -> ModuleType:  # noqa: ARG001
    pytest.importorskip("cosmic_ray", reason="the extra `mutation` (Cosmic Ray) is not installed")
    import mutation

    return mutation


@pytest.mark.usefixtures("tools")
def test_every_module_has_tests_and_every_test_exists() -> None:
    import mutation_tests

    for package, table in mutation_tests.PACKAGES.items():
        modules = [path.relative_to(ROOT).as_posix() for path in mutation_tests.modules(ROOT, package)]
        assert modules, package
        for module in modules:
            first, *tests = mutation_tests.tests_of(ROOT, module)
            assert first == module
            assert tests, module
            assert all((ROOT / test.split("::")[0]).is_file() for test in tests)
        names = [module.removesuffix(".py").removeprefix(f"src/otoscope/{package}").strip("/") for module in modules]
        unused = [start for start in table if not any(name.startswith(start) for name in names)]
        assert not unused, f"no module of {package} begins with {unused}"
    with pytest.raises(StopIteration):
        mutation_tests.tests_of(ROOT, "src/otoscope/cli/main.py")


@pytest.mark.parametrize(
    ("source", "changed"),
    [
        ("f(1)\n", "pass\n"),
        ("if a:\n    raise ValueError(1)\n", "if a:\n    pass\n"),
        ("a.b = 1\n", "pass\n"),
        ("a[1] = 2  # text\n", "pass  # text\n"),
        ("a += 1\n", "pass\n"),
        ("a = 1\n", None),
        ("a: int = 1\n", None),
        ('"""text"""\n', None),
        ("import a\n", None),
        ("return f(1)\n", None),
    ],
)
def test_a_statement_with_an_effect_is_removed(faults: ModuleType, source: str, changed: str | None) -> None:
    assert faults.mutate_code(source, faults.RemoveStatement(), 0) == changed


def test_a_draw_plants_one_fault_at_each_place_and_none_in_annotations(faults: ModuleType) -> None:
    drawn = list(faults.draw("bench/plan", 12, 3))
    assert drawn[:4] == list(faults.draw("bench/plan", 4, 3)) != list(faults.draw("bench/plan", 4, 4))
    assert len({(fault.module, fault.operator, fault.occurrence) for fault, _ in drawn}) == 12
    for fault, changed in drawn:
        source = (ROOT / fault.module).read_text(encoding="utf-8")
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source))


def test_the_report_has_the_share_of_each_package_and_every_fault_that_no_test_noticed(mutation: ModuleType) -> None:
    fault = {"module": "src/otoscope/ops/sign.py", "line": 7, "operator": "AddNot", "occurrence": 0}
    outcomes = ["failed", "passed", "endless", "unusable"]
    rows = [
        {"package": "bench/plan", "seed": 7, "fault": fault, "outcome": outcome, "diff": ["-a", "+b"]}
        for outcome in outcomes
    ]
    text = mutation.report([*rows, rows[0] | {"seed": 8}])
    number = mutation.count_places("bench/plan")
    assert number > 50
    assert f"| bench/plan | 7 | {number} | 4 | 3 | 75% |\n| bench/plan | 8 | {number} | 1 | 1 | 100% |" in text
    assert text.count("not caught: src/otoscope/ops/sign.py:7 (AddNot, seed 7)\n-a\n+b") == 1


def test_places_are_counted_outside_annotations(
    faults: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(faults, "ROOT", tmp_path)
    code = 'def f(a: int | None, *b: int | str) -> int | None:\n    """É."""\n    c: int | None = 1 + 2\n    return c\n'
    (tmp_path / "module.py").write_text(code, encoding="utf-8")
    found = faults.places(tmp_path / "module.py")
    assert sorted(found) == [(3, 20), (3, 22), (3, 24)]
    known = [fault for at in found.values() for fault in at]
    assert all(faults.planted(fault) for fault in known), "the number of a fault counts those in annotations as well"


@pytest.mark.usefixtures("tools")
def test_the_tests_that_call_a_function_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import callers

    code = "import functools\n\n\n@functools.cache\ndef f(x=1):\n    def g():\n        return x\n\n    return g()\n"
    (tmp_path / "called.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    called, before = importlib.import_module("called"), sys.gettrace()
    plugin = callers.CallerPlugin(tmp_path, tmp_path / "calls.json")
    for test, value in (("a", 1), ("b", 2), ("c", 1)):
        during = plugin.pytest_runtest_protocol(SimpleNamespace(nodeid=test))
        next(during)
        called.f(value)
        with pytest.raises(StopIteration):
            next(during)
        assert sys.gettrace() is before
    plugin.pytest_sessionfinish()
    known = json.loads((tmp_path / "calls.json").read_text())
    assert known == {"called.py:4": ["a", "b"], "called.py:6": ["a", "b"]}, "the result for c is cached"
    assert [callers.function_at(code, line) for line in range(1, 10)] == [None, None, None, None, None, 4, 6, 4, 4]
