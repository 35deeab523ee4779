"""Rankings as a reader sees them: `otoscope rank` in every format, and the drawings of the report."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from otoscope.cli import arguments, main
from otoscope.metrics import stats
from otoscope.report.html import charts
from otoscope.report.html.page import write_report
from otoscope.report.rankings import EncoderRanking, Rankings, rank
from otoscope.report.scoreboard import ProbeRanks
from otoscope.results import Store
from planted import Ground, plant
from test_report import page

pytestmark = pytest.mark.usefixtures("store")
HEADINGS = ("Does the probe change the ranking of encoders?", "Probes over all encoders and data sets")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    made = Store(tmp_path / "otoscope-runs" / "results")
    for number, dataset in enumerate(("scenes", "birds_2")):
        ground = Ground.sown(dataset, seed=number)
        for luck, (encoder, skill) in enumerate((("whisper", 1.6), ("tiny", 1.5), ("random", 0.2))):
            skills = {"linear": skill - 0.3, "mean": skill - 0.5, "protobin": skill}
            plant(made, ground, encoder, skills, luck=luck)
            if dataset == "scenes":
                plant(made, ground, encoder, {"finetune": skill + 0.2}, seeds=1, luck=luck)
    return made


@pytest.fixture
def found(store: Store) -> Rankings:
    return rank(store)


def ranked(found: Rankings, dataset: str) -> EncoderRanking:
    return next(r for r in found.rankings if r.dataset == dataset)


def run(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["rank", *words]) == 0
    return capsys.readouterr().out


def test_the_terminal_says_values_ranks_differences_and_the_verdict(
    found: Rankings, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run([], capsys)
    r = ranked(found, "scenes")
    line = next(words for words in out.split("scenes: mAP")[1].splitlines() if words.startswith("linear"))
    ranks = r.ranks("linear")
    for encoder in r.encoders:
        assert f"{100 * r.standings['linear', encoder].value:.1f} ({ranks[encoder]:g})" in line
    near = r.agreements["linear", "finetune"]
    assert line.split()[-4:] == f"{near.value:.2f} {near.low:.2f} to {near.high:.2f}".replace("-", "−").split()
    assert "scenes: differences between encoders, in points of mAP; * decided at 5 % (Holm, 12 comparisons)" in out
    row = next(words for words in out.split("scenes: differences")[1].splitlines() if words.startswith("tiny − random"))
    comparisons = [r.comparison(probe, "tiny", "random") for probe in r.probes]
    words = [f"{100 * d.difference.value:+.1f}{'*' * d.decided}".replace("-", "−") for d in comparisons]
    assert row.split()[3:] == words
    assert all(d.decided for d in comparisons)
    assert "Under linear: " in out
    assert "No probe changes the order of two encoders significantly" in out
    assert "6 pairs of an encoder and a data set" in out


def test_a_tau_that_no_fine_tuning_gives_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(["--dataset", "birds_2"], capsys)
    assert "τ to" not in out
    assert "scenes" not in out


def test_filters_cut_encoders_and_probes_and_the_family(capsys: pytest.CaptureFixture[str]) -> None:
    only = ["--dataset", "scenes", "--encoder", "tiny", "--encoder", "whisper", "--probe", "linear", "--probe", "mean"]
    out = run(only, capsys)
    assert "Holm, 2 comparisons" in out
    assert "random" not in out
    assert "protobin" not in out


def test_csv_and_json_hold_everything_in_rows_of_the_same_columns(
    found: Rankings, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = json.loads(run(["--format", "json"], capsys))
    table = list(csv.DictReader(io.StringIO(run(["--format", "csv"], capsys))))
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows] == table
    counts = {kind: sum(row["kind"] == kind for row in rows) for kind in dict.fromkeys(row["kind"] for row in rows)}
    assert counts == {"standing": 12 + 9, "difference": 12 + 9, "tau": 6 + 3, "wins": 6, "average rank": 3}
    r = ranked(found, "scenes")
    held = [row for row in rows if row["dataset"] == "scenes"]
    for row in (row for row in held if row["kind"] == "difference"):
        comparison = next(
            d for d in r.comparisons if (d.probe, d.a, d.b) == (row["probe"], row["encoder"], row["other_encoder"])
        )
        assert (row["value"], row["low"], row["p"]) == (
            comparison.difference.value,
            comparison.difference.low,
            comparison.difference.p,
        )
        assert (row["p_holm"], row["decided"]) == (comparison.p, comparison.decided)
    for row in (row for row in held if row["kind"] == "standing"):
        standing = r.standings[row["probe"], row["encoder"]]
        assert (row["value"], row["trainings"]) == (standing.value, len(standing.estimate.per_seed))
        assert row["rank"] == r.ranks(row["probe"])[row["encoder"]]
        assert (row["sd_over_trainings"] is None) == (row["probe"] == "finetune")
    for row in (row for row in held if row["kind"] == "tau"):
        near = r.agreements[row["probe"], row["other_probe"]]
        assert (row["value"], row["low"], row["high"]) == (near.value, near.low, near.high)


def test_latex_is_balanced_booktabs_in_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(["--format", "latex"], capsys)
    assert out.count(r"\begin{tabular}") == out.count(r"\end{tabular}") == out.count(r"\toprule") == 3 + 3 + 2
    rows = [line for line in out.splitlines() if line and not line.startswith("%")]
    columns = 0
    for line in rows:
        if line.startswith(r"\begin"):
            columns = len(line.removeprefix(r"\begin{tabular}{").removesuffix("}"))
        elif line.endswith(r"\\"):
            assert line.count("&") + 1 == columns
    assert "".join(rows).isascii()
    assert r"$\tau$ to finetune" in out


def test_markdown_tables_have_as_many_cells_in_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"(?:^\|.*\n)+", run(["--format", "markdown"], capsys), re.MULTILINE)
    assert len(blocks) == 8
    for block in blocks:
        assert len({line.count("|") for line in block.splitlines()[:1] + block.splitlines()[2:]}) == 1


def test_formats_are_those_of_results() -> None:
    for form in arguments.FORMATS:
        assert arguments.parser().parse_args(["rank", "--format", form]).format == form


def test_nothing_to_rank_says_what_that_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", "--encoder", "tiny", "--dataset", "scenes"]) == 2
    assert "needs a data set with two encoders under the same probe" in capsys.readouterr().err
    assert main(["rank", "--encoder", "tinny"]) == 2
    assert "otoscope results" in capsys.readouterr().err
    assert main(["rank", "--out", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_help_of_rank_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom otoscope.cli import main\n"
        "try: main(['rank', '--help'])\nexcept SystemExit as end: assert end.code == 0\n"
        "print([m for m in ('torch', 'numpy', 'scipy', 'csv') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_dots_stand_at_the_ranks_and_undecided_neighbours_are_linked(found: Rankings) -> None:
    r = ranked(found, "scenes")
    drawn = charts.bump_chart(r, r.encoders)
    circle = r'<circle class="rank colour(\d)" cx="([\d.]+)" cy="([\d.]+)" r="13"><title>(\w+), (\w+):'
    spots = re.findall(circle, drawn)
    assert len(spots) == 12
    heights = {rank: charts.HEAD + charts.ROW * (rank - 0.5) for rank in (1, 2, 3)}
    for hue, _, y, encoder, probe in spots:
        assert r.encoders[int(hue)] == encoder
        assert float(y) == pytest.approx(heights[int(r.ranks(probe)[encoder])])
    columns = {probe: float(x) for _, x, _, _, probe in spots}
    assert sorted(columns, key=lambda probe: columns[probe]) == list(r.probes)
    assert list(columns)[-1] == "finetune"
    linked = {(float(x), float(a), float(b)) for x, a, b in re.findall(
        r'class="undecided" x1="([\d.]+)" y1="([\d.]+)" x2="[\d.]+" y2="([\d.]+)"', drawn
    )}  # fmt: skip
    wanted = {
        (columns[probe], heights[place], heights[place + 1])
        for probe in r.probes
        for place, (one, other) in enumerate(itertools.pairwise(r.order(probe)), 1)
        if not r.comparison(probe, one, other).decided
    }
    assert linked == wanted
    assert 0 < len(wanted) < 8
    assert drawn.count("τ ") == 3


def test_an_encoder_that_the_outer_probes_lack_is_named_where_it_begins(tmp_path: Path) -> None:
    store, ground = Store(tmp_path / "r"), Ground.sown("scenes")
    for luck, encoder in enumerate(("a", "b")):
        plant(store, ground, encoder, {"mean": 0.2, "linear": 0.5, "mhca": 1.0}, luck=luck)
    plant(store, ground, "inner", {"linear": 0.4}, luck=5)
    (r,) = rank(store).rankings
    drawn = charts.bump_chart(r, r.encoders)
    assert len(re.findall(r">a</text>", drawn)) == len(re.findall(r">b</text>", drawn)) == 2
    assert len(re.findall(r">inner</text>", drawn)) == 1


def test_the_win_matrix_shows_every_count(found: Rankings) -> None:
    assert found.board is not None
    drawn = charts.win_matrix(found.board)
    words = re.findall(r"<title>(\w+) wins over (\w+) in (\d+) of (\d+) pairs</title>", drawn)
    for one, other, won, met in words:
        i, j = (found.board.probes.index(name) for name in (one, other))
        assert (int(won), int(met)) == (found.board.wins[i, j], found.board.compared[i, j])
    assert len(words) == 6
    assert drawn.count('class="blank"') == 3


def test_probes_under_one_bar_are_exactly_those_within_the_critical_difference() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        ranks = np.sort(rng.uniform(1, 6, 6))
        groups = charts._groups(ranks, 1.3)
        for i, j in itertools.combinations(range(6), 2):
            assert any(a <= i and j <= b for a, b in groups) == (ranks[j] - ranks[i] <= 1.3)
        assert all(not (a <= c and d <= b) for (a, b), (c, d) in itertools.permutations(groups, 2))


def test_the_critical_difference_diagram_places_probes_by_rank() -> None:
    placed = ProbeRanks(("a", "b", "c"), 5, stats.AverageRanks(np.array([1.0, 2.2, 2.8]), 9.0, 0.01, 0.8))
    drawn = charts.critical_difference(placed)
    xs = [float(x) for x in re.findall(r'class="dot-best" cx="([\d.]+)"', drawn)]
    assert (xs[1] - xs[0]) / (xs[2] - xs[0]) == pytest.approx(1.2 / 1.8, abs=1e-3)
    assert drawn.count('class="group"') == 1
    assert "CD 0.80" in drawn
    assert placed.different_from("a") == ["b", "c"]


def test_the_report_draws_rankings_where_the_data_is_there(store: Store, tmp_path: Path) -> None:
    path = write_report(store.path, tmp_path / "report.html")
    html, words = path.read_text(), " ".join(page(path).words)
    assert all(heading in words for heading in HEADINGS)
    assert html.count('aria-label="rank of 3 encoders on') == 2
    assert "No probe changes the order of two encoders significantly" in words
    assert 'aria-label="average rank of each probe' in html
    assert "Left out" not in words
    assert page(path).open == []


def test_the_report_names_who_is_left_out_of_its_rankings(store: Store, tmp_path: Path) -> None:
    plant(store, Ground.sown("scenes"), "tiny", {"cgp": 1.0})
    words = " ".join(page(write_report(store.path, tmp_path / "report.html")).words)
    assert "Left out of rankings and comparisons" in words
    assert "scenes: only tiny has cgp" in words


def test_the_report_of_one_encoder_has_no_rankings(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    plant(store, Ground.sown("scenes"), "tiny", {"linear": 0.5, "mean": 0.3, "protobin": 1.0})
    words = " ".join(page(write_report(store.path, tmp_path / "report.html")).words)
    assert not any(heading in words for heading in HEADINGS)
    plant(store, Ground.sown("birds", seed=1), "tiny", {"linear": 0.5, "mean": 0.3, "protobin": 1.0})
    words = " ".join(page(write_report(store.path, tmp_path / "report.html")).words)
    assert [heading in words for heading in HEADINGS] == [False, True]
