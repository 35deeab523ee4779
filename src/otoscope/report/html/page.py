"""The report: one self-contained HTML file made from a store of results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from itertools import groupby
from pathlib import Path

from otoscope.files import replacing
from otoscope.report import headline
from otoscope.report.html import charts, figures
from otoscope.report.html.svg import escape
from otoscope.report.rankings import Rankings, rank
from otoscope.report.scoreboard import Scoreboard
from otoscope.report.table import FINETUNE, LINEAR, Row, class_scores, per_seed, summarise
from otoscope.report.text import flat, rankings, summary, table
from otoscope.results import Store, activation_map

COPY = "navigator.clipboard.writeText(document.getElementById('{0}').textContent);this.textContent='copied'"
KEY_SHAPES = {
    "winner": '<rect class="bar-best" y="2" width="26" height="10" rx="2"/>',
    "other probes": '<rect class="bar" y="2" width="26" height="10" rx="2"/>',
    "fine-tuning": '<rect class="bar-reference" x="1" y="2" width="24" height="10" rx="2"/>',
    "control": '<rect class="bar faint" y="4" width="26" height="6" rx="2"/>',
    "interval": '<path class="whisker" d="M2 7H24M2 3.5V10.5M24 3.5V10.5"/>',
    "base dot": '<circle class="dot-base" cx="13" cy="7" r="4.5"/>',
    "best dot": '<circle class="dot-best" cx="13" cy="7" r="4.5"/>',
    "other dot": '<circle class="dot-other" cx="13" cy="7" r="3"/>',
    "undecided": '<rect class="bar" y="1" width="26" height="12" rx="6" opacity=".45"/>',
    "group": '<path class="group" d="M4 7H22"/>',
    "reference mark": '<rect class="mark-reference" x="12" y="1" width="2" height="12" rx="1"/>',
}


def write_report(store_path: str | Path, out_html: str | Path) -> Path:
    """Write the report of a store; returns the file's path.

    The file loads nothing from anywhere. A clip is shown where `otoscope.results.activation_map.activation_path(store_path)` holds one.
    `ValueError` for an empty store.
    """
    store = Store(store_path)
    rows, found = summarise(store), rank(store)
    cells = sorted(summary.by_pair(rows), key=lambda cell: headline.is_control(cell[0].encoder))
    ordered = [row for cell in cells for row in cell]
    sections = [
        _top(cells[0], ordered),
        _tables(cells),
        _bars(ordered),
        _rankings(found),
        _board(found.board),
        _left_out(found),
        *(_classes(store, cell) for cell in cells if not headline.is_control(cell[0].encoder)),
        _exhibit(store_path),
        _method(ordered),
        _copies(store, ordered),
    ]
    style = resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    page = PAGE.format(title=escape(headline.claim(cells[0])), style=style, body="\n".join(filter(None, sections)))
    out = Path(out_html)
    with replacing(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return out


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def _top(cell: Sequence[Row], rows: Sequence[Row]) -> str:
    others = [row for row in rows if row not in cell]
    words = escape(headline.claim(cell))
    for row in cell:
        if row.winner:
            words = words.replace(escape(row.label), f"<em>{escape(row.label)}</em>", 1)
    lead = " ".join(headline.reasons(cell, others)).replace(" %", "\u00a0%")
    return f'<p class="brand">otoscope report</p>\n<h1>{words}</h1>\n<p class="lead">{escape(lead)}</p>'


def _tables(cells: Sequence[Sequence[Row]]) -> str:
    parts = ["<h2>The comparison</h2>"]
    for cell in cells:
        parts.append(f"<h3>{escape(summary.title(cell))}</h3>\n{_table(cell)}")
    notes = [escape(line) for cell in cells for line in summary.legend(cell)]
    return "\n".join([*parts, *(f'<p class="note">{line}</p>' for line in dict.fromkeys(notes))])


def _table(cell: Sequence[Row]) -> str:
    words = summary.summary_table(cell)
    head = "".join(f"<th>{escape(word)}</th>" for word in words.header)
    lines = []
    for row, line in zip(cell, words.body, strict=True):
        style = ' class="best"' if row.winner else ' class="reference"' if row.finetuned else ""
        lines.append(f"<tr{style}>" + "".join(f"<td>{_dim(word)}</td>" for word in line) + "</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _dim(word: str) -> str:
    """A cell; what stands in brackets is an interval and set smaller."""
    head, bracket, tail = word.partition(" [")
    return f"{escape(head)} <small>[{escape(tail)}</small>" if bracket else escape(word)


def _bars(rows: Sequence[Row]) -> str:
    parts = ["<h2>Probes side by side</h2>"]
    for dataset, group in groupby(sorted(rows, key=lambda r: r.dataset), key=lambda r: r.dataset):
        held = list(group)
        encoders = list(dict.fromkeys(r.encoder for r in held))
        note = f"{held[0].metric} in % on {dataset}, encoder {encoders[0]}."
        parts.append(f'<p class="note">{escape(note)}</p>')
        keys = {"winner": "best probe", "other probes": "other probes"} if any(r.winner for r in held) else {}
        keys |= {"fine-tuning": "fine-tuned encoder"} if any(r.finetuned for r in held) else {}
        keys |= {"control": f"the same with {' and '.join(encoders[1:])}"} if len(encoders) > 1 else {}
        keys |= {"interval": "95 % interval over clips"} if any(r.interval for r in held) else {}
        parts.append(f"<figure>{_key(keys)}{figures.bars(held)}</figure>")
    return "\n".join(parts)


def _rankings(found: Rankings) -> str:
    parts = ["<h2>Does the probe change the ranking of encoders?</h2>"] if found.rankings else []
    hues = list(dict.fromkeys(encoder for r in found.rankings for encoder in r.encoders))
    for r in found.rankings:
        note = f"Rank of each encoder under each probe, best on top; inside, {r.metric} in %."
        note += f" Under each probe, Kendall's τ to {r.reference} with its 95 % interval." if r.reference else ""
        note += " Pairs are decided on the same resampled clips, at 5 % after Holm's correction."
        keys = {} if all(d.decided for d in r.duels) else {"undecided": "neighbours that the clips do not decide"}
        numbers = table.document(rankings.tables(r), rankings.sentences(r), "table")
        parts.append(
            f'<h3>{escape(r.dataset)}</h3>\n<p class="verdict">{escape(rankings.verdict(r))}</p>\n'
            f'<p class="note">{escape(note)}</p>\n<figure>{_key(keys)}{charts.bumps(r, hues)}</figure>\n'
            f"<details><summary>Numbers</summary><pre>{escape(numbers)}</pre></details>"
        )
    return "\n".join(parts)


def _board(board: Scoreboard | None) -> str:
    if board is None:
        return ""
    note = " ".join(rankings.board_sentences(board))
    parts = [f'<h2>Probes over all cells</h2>\n<p class="note">{escape(note)}</p>']
    if board.probes:
        title = rankings.board_tables(board)[0][0]
        parts.append(f'<p class="note">{escape(title)}.</p>\n<figure>{charts.wins(board)}</figure>')
    if board.placed:
        keys = {"group": "not told apart"}
        parts.append(f"<figure>{_key(keys)}{charts.critical_difference(board.placed)}</figure>")
    return "\n".join(parts)


def _left_out(found: Rankings) -> str:
    if not (found.left_out and (found.rankings or found.board)):
        return ""
    body = "".join(f"<li>{escape(words)}</li>" for words in found.left_out)
    return f"<details><summary>Left out of rankings and cells</summary><ul class='note'>{body}</ul></details>"


def _classes(store: Store, cell: Sequence[Row]) -> str:
    linear, winner = next((r for r in cell if r.probe == LINEAR), None), next((r for r in cell if r.winner), None)
    tuned = max((r for r in cell if r.finetuned), key=lambda r: r.sort_key, default=None)
    scores = {row.label: class_scores(store, row) for row in cell if not row.finetuned}
    scores |= {FINETUNE: class_scores(store, tuned)} if tuned else {}
    scores = {label: held for label, held in scores.items() if held}
    if linear is None or winner is None or winner is linear or not {linear.label, winner.label} <= set(scores):
        return ""
    keys = {"base dot": linear.label, "best dot": winner.label}
    keys |= {"other dot": "other probes"} if len(scores) > 2 else {}
    keys |= {"reference mark": "fine-tuning"} if FINETUNE in scores else {}
    drawn = figures.classes({LINEAR if k == linear.label else k: v for k, v in scores.items()}, winner.label)
    note = f"Average precision in % of every class of {winner.dataset}, {winner.encoder}, sorted by the gain of "
    note += f"{winner.label} over linear. Mean over seeds."
    return f'<h2>Class by class</h2>\n<p class="note">{escape(note)}</p>\n<figure>{_key(keys)}{drawn}</figure>'


def _exhibit(store_path: str | Path) -> str:
    path = activation_map.activation_path(store_path)
    if not path.exists():
        return ""
    shown = activation_map.load(path)
    note = (
        f"Test clip {shown.clip_id}, labelled {', '.join(shown.true_labels) or 'nothing'}. Below its spectrogram: how "
        f"much every token of {shown.encoder} resembles prototype {shown.prototype} of {shown.probe}, the one that "
        f"speaks most strongly for “{shown.class_name}” here; the token that answers most is outlined."
    )
    return (
        f'<h2>One clip, seen through one prototype</h2>\n<p class="note">{escape(note)}</p>\n'
        f"<figure>{figures.exhibit(shown)}</figure>"
    )


def _method(rows: Sequence[Row]) -> str:
    records = [record for row in rows for record in row.records]
    machines = sorted({r.machine for r in records if r.machine})
    dates = sorted({r.date[:10] for r in records if r.date})
    versions = sorted({f"{name} {version}" for r in records for name, version in r.versions.items()})
    facts = [
        "The encoder is frozen; each probe is trained on the train split and keeps its best epoch on the validation "
        "split. The held-out test split is opened once, to fill these tables.",
        "mAP is the mean over classes of average precision (step-wise, classes without positives dropped).",
        "Intervals: 95 %, bootstrap over test clips (1,000 resamples), seeds averaged in each. Gains and shares of "
        "the gap are paired: every probe is measured on the same resampled clips.",
        "Share of the gap closed: (probe − linear) / (fine-tuning − linear).",
        *([f"Measured {dates[0]}" + (f" to {dates[-1]}" if len(dates) > 1 else "") + "."] if dates else []),
        *([f"Machine: {'; '.join(machines)}."] if machines else []),
        *([f"Versions: {', '.join(versions)}."] if versions else []),
    ]
    body = "".join(f"<tr><td>{escape(r.encoder)} · {escape(r.label)}</td><td>{_config(r)}</td></tr>" for r in rows)
    opening = '<div class="scroll"><table class="words"><thead><tr><th>probe</th><th>configuration</th></tr></thead>'
    return (
        "<h2>How it was measured</h2>\n<ul class='note'>"
        + "".join(f"<li>{escape(fact)}</li>" for fact in facts)
        + f"</ul>\n<details><summary>Configurations</summary>{opening}<tbody>{body}</tbody></table></div></details>"
    )


def _config(row: Row) -> str:
    words = [f"{k} = {json.dumps(v) if not isinstance(v, str) else v}" for k, v in row.records[0].config.items()]
    return f"<code>{escape(', '.join(words))}</code>"


def _copies(store: Store, rows: Sequence[Row]) -> str:
    forms = {"Markdown": summary.summary_markdown(rows), "CSV, every seed": flat.flat_text(per_seed(store), "csv")}
    parts = ["<h2>To take along</h2>"]
    for number, (name, words) in enumerate(forms.items()):
        click = COPY.format(f"copy{number}")
        button = f'<p><button onclick="{click}">copy</button></p>'
        parts.append(
            f'<details><summary>{name}</summary>{button}<pre id="copy{number}">{escape(words)}</pre></details>'
        )
    return "\n".join(parts)


def _key(entries: dict[str, str]) -> str:
    drawn = (
        f'<span><svg viewBox="0 0 26 14">{KEY_SHAPES[k]}</svg>{escape(words)}</span>' for k, words in entries.items()
    )
    return f'<div class="key">{"".join(drawn)}</div>'
