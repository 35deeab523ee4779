"""`knn` with very many clips: a million remembered vectors against a thousand queries, in bounded memory.

python benchmarks/neighbours.py            # D = 192, ten classes
python benchmarks/neighbours.py --small    # a toy, to see that it runs
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from measure import Work, compare, extra_memory, typical
from otoscope import probes
from otoscope.probes import Probe
from otoscope.types import Tokens, TokenShape
from render import command
from rows import Bytes, Seconds, Section

CLASSES, NEAREST, CHUNK = 10, 20, 10_000
OURS, TABLE, REMEMBERING = "this library", "one table", "remembering"
TOY = {"remembered": 64, "queries": 4, "dim": 8}
"""Options that load all code and take no memory to speak of."""
COMPARED = """\
The vote of the nearest clips among very many remembered ones, for a batch of queries as large as a validation split.
The other way is the plain one: a table of all cosines, and the largest of each row; it is run with a tenth of the
clips, for the whole table might not fit. Memory is the highest resident set beyond that before, in a fresh process."""
BOUNDS = """\
The product of queries and remembered vectors, and the choice of the nearest in each block, which looks at every cosine
once. Work is linear in remembered clips and in queries; memory is one block of cosines whatever their number, and the
remembered vectors themselves. Putting the batches that were remembered into one tensor needs the room of these vectors
once more for a moment."""


@dataclass(frozen=True)
class Held:
    """Time and memory of one thing."""

    what: Annotated[str, "what"]
    took: Annotated[Seconds, "time"]
    extra: Annotated[Bytes | None, "extra memory"]
    table: Annotated[Bytes, "a table of all cosines"]
    vectors: Annotated[Bytes, "the remembered vectors"]


def case(way: str, *, remembered: int, queries: int, dim: int) -> Work:
    """The work to be measured, its inputs made before."""
    vectors, asked = _unit(remembered, dim, 0), _unit(queries, dim, 1)
    if way == TABLE:
        return lambda: (asked @ vectors.T).topk(min(NEAREST, remembered))
    if way == REMEMBERING:
        return lambda: _knn(vectors)(_tokens(asked[:1]))
    probe = _knn(vectors)
    probe(_tokens(asked[:1]))
    return lambda: probe(_tokens(asked))


def _knn(vectors: Tensor) -> Probe:
    probe = probes.create("knn", TokenShape(1, 1, vectors.shape[1], True, 6.25), CLASSES, k=NEAREST)
    for part in vectors.split(CHUNK):
        probe.partial_fit(_tokens(part), F.one_hot(torch.arange(len(part)) % CLASSES, CLASSES).float())
    return probe.eval()


def _unit(count: int, dim: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def _tokens(vectors: Tensor) -> Tokens:
    return Tokens(vectors[:, None, None, None], cls=vectors[:, None])


def sections(small: bool) -> list[Section]:
    """Against the table with fewer clips; time and memory with all of them."""
    size = TOY if small else {"remembered": 10**6, "queries": 1000, "dim": 192}
    fewer = size | {"remembered": size["remembered"] // 10}
    against = compare(f"`knn`: {_spoken(fewer)}", case(OURS, **fewer), case(TABLE, **fewer))
    ways = {OURS: f"`knn`: {_spoken(size)}", REMEMBERING: "making it remember them"}
    memory = extra_memory("neighbours", "case", [{"way": way} | size for way in ways], warm={"way": OURS} | TOY)
    table, vectors = (Bytes(4 * size["remembered"] * size[other]) for other in ("queries", "dim"))
    held = [
        Held(what, typical(case(way, **size)), both and both[0], table, vectors)
        for (way, what), both in zip(ways.items(), memory, strict=True)
    ]
    return [Section("7. Very many neighbours", COMPARED, [[against], held], BOUNDS)]


def _spoken(size: dict[str, int]) -> str:
    return "{remembered:,} clips, {queries:,} queries, D={dim}".format(**size)


if __name__ == "__main__":
    command(sections, __doc__, None)
