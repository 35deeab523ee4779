"""`knn` with a million stored vectors and a thousand queries, in bounded memory.

python benchmarks/neighbours.py            # D = 192, ten classes
python benchmarks/neighbours.py --small    # tiny sizes, to check that it runs
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
OURS, TABLE, STORING = "this library", "one table", "storing"
TOY = {"stored": 64, "queries": 4, "dim": 8}
"""Options of a tiny problem, which imports all code and takes almost no memory."""
COMPARED = """\
The vote of the nearest clips among very many stored ones, for a batch of queries as large as a validation split. The
other implementation is a table of all cosines and the largest values of each row. It runs with a tenth of the clips,
because the whole table might not fit into memory. Memory is the peak resident set minus that before, in a new
process."""
BOUNDS = """\
The product of queries and stored vectors, and the choice of the nearest in each block, which reads every cosine
once. The work is linear in stored clips and in queries. The memory is one block of cosines, whatever the number of
clips, and the stored vectors themselves. Joining the stored batches into one tensor temporarily needs the memory of
these vectors a second time."""


@dataclass(frozen=True)
class Cost:
    """Time and memory of one operation."""

    what: Annotated[str, "what"]
    took: Annotated[Seconds, "time"]
    extra: Annotated[Bytes | None, "extra memory"]
    table: Annotated[Bytes, "a table of all cosines"]
    vectors: Annotated[Bytes, "the stored vectors"]


def case(way: str, *, stored: int, queries: int, dim: int) -> Work:
    """Build the work to measure; its inputs are made beforehand."""
    vectors, query = _normalised(stored, dim, 0), _normalised(queries, dim, 1)
    if way == TABLE:
        return lambda: (query @ vectors.T).topk(min(NEAREST, stored))
    if way == STORING:
        return lambda: _knn(vectors)(_tokens(query[:1]))
    probe = _knn(vectors)
    probe(_tokens(query[:1]))
    return lambda: probe(_tokens(query))


def _knn(vectors: Tensor) -> Probe:
    probe = probes.create("knn", TokenShape(1, 1, vectors.shape[1], True, 6.25), CLASSES, k=NEAREST)
    for part in vectors.split(CHUNK):
        probe.partial_fit(_tokens(part), F.one_hot(torch.arange(len(part)) % CLASSES, CLASSES).float())
    return probe.eval()


def _normalised(count: int, dim: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def _tokens(vectors: Tensor) -> Tokens:
    return Tokens(vectors[:, None, None, None], cls=vectors[:, None])


def sections(small: bool) -> list[Section]:
    """Compare with the table for fewer clips; measure time and memory with all clips."""
    size = TOY if small else {"stored": 10**6, "queries": 1000, "dim": 192}
    fewer = size | {"stored": size["stored"] // 10}
    against = compare(f"`knn`: {_description(fewer)}", case(OURS, **fewer), case(TABLE, **fewer))
    ways = {OURS: f"`knn`: {_description(size)}", STORING: "storing the vectors"}
    memory = extra_memory("neighbours", "case", [{"way": way} | size for way in ways], warm={"way": OURS} | TOY)
    table, vectors = (Bytes(4 * size["stored"] * size[other]) for other in ("queries", "dim"))
    costs = [
        Cost(what, typical(case(way, **size)), both and both[0], table, vectors)
        for (way, what), both in zip(ways.items(), memory, strict=True)
    ]
    return [Section("7. Very many neighbours", COMPARED, [[against], costs], BOUNDS)]


def _description(size: dict[str, int]) -> str:
    return "{stored:,} clips, {queries:,} queries, D={dim}".format(**size)


if __name__ == "__main__":
    command(sections, __doc__, None)
