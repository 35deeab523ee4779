"""Text from elsewhere in every format that is written: it never becomes syntax, and a terminal never obeys it."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from helpers_records import add_scenes
from otoscope.cli import main
from otoscope.printable import printable, printable_lines
from otoscope.report.text import escaping
from otoscope.report.text.flat import flat_text
from otoscope.report.text.table import TextTable, document
from otoscope.results import Store

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029]")
HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07",
    "a\nb\rc",
    "\u202egnp.exe",
    '=HYPERLINK("http://x")',
    "+1",
    "@SUM(A1)",
    r"\input{/etc/passwd}",
    "a & b \\\\ c % d # e $ f _ g { h } ~ i ^ j < k > l | m -- n",
    "[x](javascript:alert(1))",
    "<script>alert(1)</script>",
    "| a | b |",
    "`code",
    "# heading",
    "* item",
    "**bold** _it_ ~~gone~~ &lt;",
    "[0pt]",
    "*",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_terminal_obeys_no_text(text: str) -> None:
    table = TextTable([text, "mAP"], [[text, "1.0"]]).text()
    assert len(table.splitlines()) == 3
    assert not CONTROL.search(table)
    assert len({len(line) for line in table.splitlines()[1:]}) == 1, "columns are aligned"
    assert not CONTROL.search(document([(text, TextTable(["a"], [["b"]]))], [text], "table"))


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_keeps_its_cells_and_has_no_markup_of_others(text: str) -> None:
    head, rule, row = TextTable([text, "mAP"], [[text, "1.0"]]).markdown().splitlines()
    assert len(re.findall(r"(?<!\\)\|", head)) == len(re.findall(r"(?<!\\)\|", row)) == 3 == rule.count("|")
    for escaped, start in ((escaping.markdown(text), ""), (escaping.markdown_line(text), "|^[#>+=-]")):
        plain = re.sub(r"\\[\\*`|_~<&\]#+=>-]", "", re.sub(r"`[^`]+`", "", escaped))
        assert not re.search(rf"[\n*`|]|<[a-z/]|\]\(|~~|&\w+;{start}", plain)
    assert "\n" not in document([], [text], "markdown")


def test_names_intervals_and_code_are_not_changed_in_markdown() -> None:
    for text in ("wsum_2 (norm=layer, epochs=30)", "+7.1 [+6.0, +8.2]", "p < 0.05", "recorded with `otoscope demo`"):
        assert escaping.markdown(text) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_latex_has_no_command_of_others(text: str) -> None:
    names = "textbackslash|textasciitilde|textasciicircum|textasciigrave|textless|textgreater|textbar"
    known = rf"\\(?:{names})\{{\}}|\\[&%$#_{{}}]"
    row = escaping.latex_row([text, "1.0"])
    rest = re.sub(known, "", row.removesuffix(r" \\").replace(" & 1.0", ""))
    assert not re.search(r"[\\&%$#_~^<>|\n`]|--", rest)
    assert re.sub(r"\{\}", "", rest).count("{") == 0
    assert not row.startswith(("[", "*", "(")), "the row before takes them for an option"
    assert all(line.startswith("%") for line in document([], [text], "latex").splitlines())


@pytest.mark.parametrize("text", HOSTILE)
def test_csv_has_no_formula_and_no_control_characters(text: str) -> None:
    written = flat_text([{text: text, "value": -0.5}], "csv")
    assert not CONTROL.search(written.replace("\t", ""))
    header, row = csv.reader(io.StringIO(written))
    for cell in (header[0], row[0]):
        assert not cell.startswith(("=", "+", "-", "@"))
    assert row[1] == "-0.5"


def test_printable_text_is_not_changed() -> None:
    for text in ("Größe, 東京, café, −0.5 ★ 🙂", "a\\nb"):
        assert printable(text) == text
    assert printable("a\nb\x00", keep="\n") == "a\nb\\x00"
    assert printable("\ud800") == "\\ud800"


def test_lines_of_a_message_are_indented() -> None:
    assert printable_lines("a:\n  b\x1b\nc\n\n    d") == "a:\n  b\\x1b\n  c\n\n    d"
    assert printable_lines("a\r") == "a\\r"


@pytest.mark.parametrize(
    "command",
    [
        ["results"],
        *(["results", "--summary", "--format", form] for form in ("table", "csv", "json", "markdown", "latex")),
        ["results", "--format", "csv"],
        ["compare", "linear", "mhca"],
    ],
)
def test_labels_of_results_are_printed_without_control_characters(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "results")
    label = "ti\x1b[31mny\u202e\n=x"
    for probe, skill in (("linear", 0.6), ("mhca", 1.2)):
        add_scenes(store, probe, skill, encoder=label)
    for record in list(store):
        predictions = store.predictions(record)
        store.remove(record)
        store.add(replace(record, dataset="scenes\x1b[0m"), predictions)
    assert main([*command, "--out", str(tmp_path)]) == 0
    assert not CONTROL.search(capsys.readouterr().out)


def test_errors_are_printed_without_control_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "--out", str(tmp_path / "no\x1b[31m")]) == 2
    error = capsys.readouterr().err
    assert "\\x1b[31m" in error
    assert not CONTROL.search(error)
