"""The subcommands that read results: `results`, `compare`, `rank` and `report`.

Imports are inside functions, as in `commands`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from otoscope.cli.commands import DEMO, RUNS, print_disagreements, store_in

if TYPE_CHECKING:
    from otoscope.report.text.flat import Format
    from otoscope.results import Store

    View = tuple[list[dict[str, Any]], Callable[[Format], str]]
    """Flat rows for files, and a function that writes the view in a text format."""


def results(args: argparse.Namespace) -> int:
    """Print results, or write them to a file."""
    from otoscope.report.text import export

    form = export.format_of(args.export) if args.export else None
    store = store_in(results_folder(args))
    view = _published if args.published else _summary if args.summary else _records
    rows, text = view(args, store)
    if not rows:
        raise ValueError(_no_results(store))
    if form is None:
        print(text(args.format))
        return 0
    if form == "parquet":
        export.write_parquet(rows, args.export)
    else:
        export.write_text(text(form), args.export)
    print(f"{args.export}: {len(rows)} rows")
    return 0


def compare(args: argparse.Namespace) -> int:
    """Print the comparison of two probes."""
    from otoscope.report.compare import compare

    select = partial(_selected, args)
    with _comparable(args) as store:
        compared = compare(store, args.a, args.b, select=select, resamples=args.resamples, by_fold=args.folds)
    print(compared.text())
    return 0


def rank(args: argparse.Namespace) -> int:
    """Print the rankings of encoders and of probes."""
    from otoscope.report import rankings
    from otoscope.report.text import flat
    from otoscope.report.text.ranking_rows import ranking_rows
    from otoscope.report.text.rankings import rankings_text

    with _comparable(args) as store:
        ranked = rankings.rank(store, select=partial(_selected, args), resamples=args.resamples, by_fold=args.folds)
        if not any(_selected(args, r.encoder, r.dataset, r.probe) for r in store):
            raise ValueError(_no_results(store))
        if not (ranked.rankings or ranked.board):
            raise ValueError(_nothing_to_rank(store, ranked.omitted))
    as_rows = args.format in ("csv", "json")
    print(flat.flat_text(ranking_rows(ranked), args.format) if as_rows else rankings_text(ranked, args.format))
    return 0


@contextmanager
def _comparable(args: argparse.Namespace) -> Iterator[Store]:
    """The results; with --common-clips, those of each data set on the clips that all selected results have."""
    store = store_in(results_folder(args))
    if not args.common_clips:
        yield store
        return
    from otoscope.report.common_clips import restrict_to_common_clips

    with TemporaryDirectory() as folder:
        restricted, sentences = restrict_to_common_clips(store, Path(folder), select=partial(_selected, args))
        for sentence in sentences:
            print(sentence, file=sys.stderr)
        yield restricted


def report(args: argparse.Namespace) -> int:
    """Write the HTML report and print its path."""
    from otoscope.remote import Mirror
    from otoscope.report.html.page import write_report

    out = results_folder(args)
    html = args.html or (Path() if Mirror.of(out) else out) / "report.html"
    print(write_report(store_in(out).path, html, by_fold=args.folds).resolve())
    return 0


def results_folder(args: argparse.Namespace) -> Path:
    """The folder given by `--out`, else the folder of the runs, or of the demo if there are no runs."""
    return args.out or next((f for f in (RUNS, DEMO) if (f / "results").is_dir()), RUNS)


def _records(args: argparse.Namespace, store: Store) -> View:
    """One row for each training, averaged over folds unless each fold was asked for."""
    from otoscope.report.text import flat
    from otoscope.report.values import record_values

    rows = [
        r for r in record_values(store, by_fold=args.folds) if _selected(args, r["encoder"], r["dataset"], r["probe"])
    ]
    return rows, partial(flat.flat_text, rows)


def _summary(args: argparse.Namespace, store: Store) -> View:
    """One row for each configuration, over its seeds."""
    from otoscope.report.rows import summarise
    from otoscope.report.text import summary
    from otoscope.report.values import row_values

    rows = summarise(store, by_fold=args.folds)
    rows = [row for row in rows if _selected(args, row.encoder, row.records[0].dataset, row.probe)]
    print_disagreements(rows)
    return _view([row_values(row) for row in rows], partial(summary.summary_text, rows))


def _published(args: argparse.Namespace, store: Store) -> View:
    """Rows and the published values of the same encoder, data set and probe."""
    from otoscope.report.published import comparison
    from otoscope.report.published.values import canonical
    from otoscope.report.rows import configurations, with_estimate

    def select(encoder: str, dataset: str, probe: str) -> bool:
        return _selected(args, encoder, dataset, probe, canonical)

    rows = [r for r in configurations(store) if select(r.encoder, r.dataset, r.probe)]
    lines = comparison.compare_with_published([with_estimate(store, row) for row in rows], select)
    return _view([comparison.flat(line) for line in lines], partial(comparison.comparison_text, lines))


def _view(rows: list[dict[str, Any]], text: Callable[[Any], str]) -> View:
    """A view whose CSV and JSON contain the flat rows; `text` writes the other formats."""
    from otoscope.report.text import flat

    return rows, lambda form: flat.flat_text(rows, form) if form in ("csv", "json") else text(form)


def _selected(
    args: argparse.Namespace, encoder: str, dataset: str, probe: str, canonical: Callable[[str], str] = str
) -> bool:
    """Whether a row passes the filters; names are compared in their canonical form."""
    filters = ((args.encoder, encoder), (args.dataset, dataset), (args.probe, probe))
    return all(not names or canonical(name) in map(canonical, names) for names, name in filters)


def _nothing_to_rank(store: Store, omitted: Sequence[str]) -> str:
    reasons = "".join(f"; omitted: {sentence}" for sentence in omitted)
    return (
        f"nothing to rank in {store.place}: a ranking needs a data set with two encoders under the same probe, or two "
        f"pairs of encoder and data set with two probes each{reasons}; `otoscope results` lists all results"
    )


def _no_results(store: Store) -> str:
    records = list(store)
    if not records:
        return f"no such results in {store.place}: it is empty; run `otoscope probe` to measure some"
    parts = (("encoders", "encoder"), ("data sets", "dataset"), ("probes", "probe"))
    labels = [f"{words} {', '.join(sorted({getattr(r, part) for r in records}))}" for words, part in parts]
    return f"no such results in {store.place}; there are {'; '.join(labels)}"
