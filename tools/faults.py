"""Small faults that can be planted in a module: those of Cosmic Ray, and statements that are missing."""

from __future__ import annotations

import ast
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cosmic_ray import plugins
from cosmic_ray.ast import Visitor, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from parso.python.tree import Keyword

import mutation_tests

ROOT = Path(__file__).parents[1]


class RemoveStatement(Operator):
    """Replaces a call, a `raise`, an augmented assignment, or an assignment to an item or attribute by `pass`."""

    def mutation_positions(self, node):
        if node.type == "simple_stmt" and self._has_effect(node.children[0]):
            yield node.start_pos, node.end_pos

    def mutate(self, node, index):  # noqa: ARG002
        node.children[0] = Keyword("pass", node.start_pos, prefix=node.get_first_leaf().prefix)
        return node

    @classmethod
    def examples(cls):
        return ()

    @staticmethod
    def _has_effect(statement) -> bool:
        if statement.type != "expr_stmt":
            return statement.type in ("raise_stmt", "atom_expr", "power")
        target, sign = statement.children[:2]
        return target.type in ("atom_expr", "power") or (sign.type == "operator" and sign.value != "=")


@dataclass(frozen=True)
class Fault:
    """One small change of one module.

    Parameters
    ----------
    module : path of the module, relative to the repository.
    line : line of the change.
    operator : name of the mutation operator.
    occurrence : number of the place among all places of this operator in the module.
    """

    module: str
    line: int
    operator: str
    occurrence: int


@cache
def operators() -> dict[str, Operator]:
    """The mutation operators by name: those of Cosmic Ray that need no arguments, and `RemoveStatement`."""
    found: dict[str, Operator] = {"RemoveStatement": RemoveStatement()}
    for name in plugins.operator_names():
        short = name.split("/")[1]
        if not short.startswith("Variable"):
            found[short] = plugins.get_operator(name)()
    return found


def places(path: Path) -> dict[tuple[int, int], list[Fault]]:
    """All faults that can be planted in a module outside its annotations, by the line and column at which they are."""
    found: dict[tuple[int, int], list[Fault]] = {}
    counts: Counter[str] = Counter()
    module, known = path.relative_to(ROOT).as_posix(), operators()
    code = path.read_text(encoding="utf-8")
    outside = _annotations(code)

    class Collect(Visitor):
        def visit(self, node):
            for name, operator in known.items():
                for start, _ in operator.mutation_positions(node):
                    if not any(first <= start < last for first, last in outside):
                        found.setdefault(start, []).append(Fault(module, start[0], name, counts[name]))
                    counts[name] += 1
            return node

    Collect().walk(get_ast(code))
    return found


def _annotations(code: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Line and column of the beginning and of the end of each annotation. Columns count characters."""
    lines, found = code.splitlines(), []
    for node in ast.walk(ast.parse(code)):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(part, ast.expr):
                ends = (part.lineno, part.col_offset), (part.end_lineno or 0, part.end_col_offset or 0)
                first, last = ((line, len(lines[line - 1].encode()[:column].decode())) for line, column in ends)
                found.append((first, last))
    return found


def count_places(package: str) -> int:
    """The number of places of a package at which there can be a fault."""
    return sum(len(places(module)) for module in mutation_tests.modules(ROOT, package))


def planted(fault: Fault) -> str | None:
    """The source with the fault; None where it only changes annotations or cannot be compiled."""
    code = (ROOT / fault.module).read_text(encoding="utf-8")
    changed: str | None = mutate_code(code, operators()[fault.operator], fault.occurrence)
    try:
        return changed if changed and _meaning(changed) != _meaning(code) else None
    except SyntaxError:
        return None


def _meaning(code: str) -> str:
    """A text that is the same for sources that differ only in comments, layout and annotations."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


def draw(package: str, number: int, seed: int) -> Iterator[tuple[Fault, str]]:
    """Draw faults of a package at random, each at another place.

    Parameters
    ----------
    package : a key of `mutation_tests.PACKAGES`.
    number : number of faults; all places if there are fewer.
    seed : seed of the draw. The first faults of a longer draw are those of a shorter one.

    Yields
    ------
    Each fault and the changed source.
    """
    found = [faults for module in mutation_tests.modules(ROOT, package) for faults in places(module).values()]
    source = random.Random(f"{package} {seed}")
    source.shuffle(found)
    for faults in found:
        if number <= 0:
            return
        fault = source.choice(faults)
        if changed := planted(fault):
            number -= 1
            yield fault, changed
