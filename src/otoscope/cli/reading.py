"""The subcommands that read results: list, export, compare, rank, draw. As in `commands`, imports stand inside."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otoscope.cli.commands import DEMO, RUNS, store_in

if TYPE_CHECKING:
    from otoscope.report.render import Format
    from otoscope.results import Store

    View = tuple[list[dict[str, Any]], Callable[[Format], str]]


def results(asked: argparse.Namespace) -> int:
    from otoscope.report import export

    form = export.form_of(asked.export) if asked.export else None
    store = store_in(results_folder(asked))
    view = _published if asked.published else _summary if asked.summary else _per_seed
    rows, words = view(asked, store)
    if not rows:
        raise ValueError(_nothing(store))
    if form is None:
        print(words(asked.format))
        return 0
    if form == "parquet":
        export.write_parquet(rows, asked.export)
    else:
        export.write_text(words(form), asked.export)
    print(f"{asked.export}: {len(rows)} rows")
    return 0


def compare(asked: argparse.Namespace) -> int:
    from otoscope.report.compare import compare

    store = store_in(results_folder(asked))
    print(compare(store, asked.a, asked.b, asked=partial(_is_asked, asked), resamples=asked.resamples).text())
    return 0


def rank(asked: argparse.Namespace) -> int:
    from otoscope.report import ranking_words, rankings, render

    store = store_in(results_folder(asked))
    found = rankings.rank(store, asked=partial(_is_asked, asked), resamples=asked.resamples)
    if not (found.rankings or found.board):
        raise ValueError(_unranked(store, found.left_out))
    flat = asked.format in ("csv", "json")
    print(
        render.flat_text(ranking_words.flat(found), asked.format) if flat else ranking_words.text(found, asked.format)
    )
    return 0


def report(asked: argparse.Namespace) -> int:
    from otoscope.report.page import write_report

    out = results_folder(asked)
    print(write_report(store_in(out).path, asked.html or out / "report.html").resolve())
    return 0


def results_folder(asked: argparse.Namespace) -> Path:
    """The folder asked for; else that of the runs, or of the demo where there are no runs."""
    return asked.out or next((f for f in (RUNS, DEMO) if (f / "results").is_dir()), RUNS)


def _per_seed(asked: argparse.Namespace, store: Store) -> View:
    from otoscope.report import render, table

    rows = [r for r in table.per_seed(store) if _is_asked(asked, r["encoder"], r["dataset"], r["probe"])]
    return rows, partial(render.flat_text, rows)


def _summary(asked: argparse.Namespace, store: Store) -> View:
    from otoscope.report import render, table

    rows = [row for row in table.summarise(store) if _is_asked(asked, row.encoder, row.dataset, row.probe)]
    return _view([table.flat(row) for row in rows], partial(render.summary_text, rows))


def _published(asked: argparse.Namespace, store: Store) -> View:
    from otoscope.report import published, table

    def wanted(encoder: str, dataset: str, probe: str) -> bool:
        return _is_asked(asked, encoder, dataset, probe, published.canonical)

    rows = [r for r in table.configurations(store) if wanted(r.encoder, r.dataset, r.probe)]
    lines = published.beside([table.estimated(store, row) for row in rows], wanted)
    return _view([published.flat(line) for line in lines], partial(published.text, lines))


def _view(rows: list[dict[str, Any]], eye: Callable[[Any], str]) -> View:
    """Rows whose CSV and JSON are the rows themselves, and whose other forms `eye` makes."""
    from otoscope.report import render

    return rows, lambda form: render.flat_text(rows, form) if form in ("csv", "json") else eye(form)


def _is_asked(
    asked: argparse.Namespace, encoder: str, dataset: str, probe: str, name: Callable[[str], str] = str
) -> bool:
    wanted = ((asked.encoder, encoder), (asked.dataset, dataset), (asked.probe, probe))
    return all(not names or name(found) in map(name, names) for names, found in wanted)


def _unranked(store: Store, left_out: Sequence[str]) -> str:
    why = "".join(f"; left out: {words}" for words in left_out)
    return (
        f"nothing to rank in {store.path}: that needs a data set with two encoders under the same probe, or two cells "
        f"(encoder x data set) with two probes each{why}; `otoscope results` lists what there is"
    )


def _nothing(store: Store) -> str:
    held = list(store)
    if not held:
        return f"no such results in {store.path}, there are none; `otoscope probe` makes some"
    kinds = (("encoders", "encoder"), ("data sets", "dataset"), ("probes", "probe"))
    names = [f"{words} {', '.join(sorted({getattr(r, kind) for r in held}))}" for words, kind in kinds]
    return f"no such results in {store.path}; there are {'; '.join(names)}"
