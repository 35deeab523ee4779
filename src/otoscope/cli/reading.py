"""The subcommands that read results: list, export, compare, rank, draw. As in `commands`, imports stand inside."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otoscope.cli.commands import DEMO, RUNS, store_in

if TYPE_CHECKING:
    from otoscope.report.text.flat import Format
    from otoscope.results import Store

    View = tuple[list[dict[str, Any]], Callable[[Format], str]]


def results(asked: argparse.Namespace) -> int:
    from otoscope.report.text import export

    form = export.format_of(asked.export) if asked.export else None
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
    from otoscope.report import rankings
    from otoscope.report.text import flat
    from otoscope.report.text.ranking_rows import ranking_rows
    from otoscope.report.text.rankings import rankings_text

    store = store_in(results_folder(asked))
    found = rankings.rank(store, asked=partial(_is_asked, asked), resamples=asked.resamples)
    if not (found.rankings or found.board):
        raise ValueError(_unranked(store, found.left_out))
    as_rows = asked.format in ("csv", "json")
    print(flat.flat_text(ranking_rows(found), asked.format) if as_rows else rankings_text(found, asked.format))
    return 0


def report(asked: argparse.Namespace) -> int:
    from otoscope.report.html.page import write_report

    out = results_folder(asked)
    print(write_report(store_in(out).path, asked.html or out / "report.html").resolve())
    return 0


def results_folder(asked: argparse.Namespace) -> Path:
    """The folder asked for; else that of the runs, or of the demo where there are no runs."""
    return asked.out or next((f for f in (RUNS, DEMO) if (f / "results").is_dir()), RUNS)


def _per_seed(asked: argparse.Namespace, store: Store) -> View:
    from otoscope.report import table
    from otoscope.report.text import flat

    rows = [r for r in table.per_seed(store) if _is_asked(asked, r["encoder"], r["dataset"], r["probe"])]
    return rows, partial(flat.flat_text, rows)


def _summary(asked: argparse.Namespace, store: Store) -> View:
    from otoscope.report import table
    from otoscope.report.text import summary

    rows = [row for row in table.summarise(store) if _is_asked(asked, row.encoder, row.dataset, row.probe)]
    return _view([table.flat(row) for row in rows], partial(summary.summary_text, rows))


def _published(asked: argparse.Namespace, store: Store) -> View:
    from otoscope.report import table
    from otoscope.report.published import comparison
    from otoscope.report.published.values import canonical

    def wanted(encoder: str, dataset: str, probe: str) -> bool:
        return _is_asked(asked, encoder, dataset, probe, canonical)

    rows = [r for r in table.configurations(store) if wanted(r.encoder, r.dataset, r.probe)]
    lines = comparison.compare_with_published([table.estimated(store, row) for row in rows], wanted)
    return _view([comparison.flat(line) for line in lines], partial(comparison.comparison_text, lines))


def _view(rows: list[dict[str, Any]], eye: Callable[[Any], str]) -> View:
    """Rows whose CSV and JSON are the rows themselves, and whose other forms `eye` makes."""
    from otoscope.report.text import flat

    return rows, lambda form: flat.flat_text(rows, form) if form in ("csv", "json") else eye(form)


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
