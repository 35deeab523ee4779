"""Rankings in every format of `otoscope rank`, and the charts of rankings in the report."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers_html import parse_page
from helpers_records import LabelledClips, add_trainings
from otoscope import rank, write_report
from otoscope.cli import arguments, main
from otoscope.metrics import stats
from otoscope.report.html import charts
from otoscope.report.rankings import EncoderRanking, Rankings
from otoscope.report.scoreboard import ProbeRanks
from otoscope.report.text.rankings import rankings_text
from otoscope.results import Store

pytestmark = pytest.mark.usefixtures("store")
HEADINGS = ("Does the probe change the ranking of encoders?", "Probes over all encoders and data sets")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "otoscope-runs" / "results")
    for number, dataset in enumerate(("scenes", "birds_2")):
        clips = LabelledClips.random(dataset, seed=number)
        for noise_seed, (encoder, skill) in enumerate((("whisper", 1.6), ("tiny", 1.5), ("random", 0.2))):
            skills = {"linear": skill - 0.3, "mean": skill - 0.5, "protobin": skill}
            add_trainings(store, clips, encoder, skills, noise_seed=noise_seed)
            if dataset == "scenes":
                add_trainings(store, clips, encoder, {"finetune": skill + 0.2}, seeds=1, noise_seed=noise_seed)
    return store


@pytest.fixture
def rankings(store: Store) -> Rankings:
    return rank(store)


def ranking_of(rankings: Rankings, dataset: str) -> EncoderRanking:
    return next(r for r in rankings.rankings if r.dataset == dataset)


def run_rank(options: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["rank", *options]) == 0
    return capsys.readouterr().out


def test_the_terminal_shows_values_ranks_differences_and_the_verdict(
    rankings: Rankings, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run_rank([], capsys)
    ranking = ranking_of(rankings, "scenes")
    line = next(line for line in out.split("scenes: mAP")[1].splitlines() if line.startswith("linear"))
    ranks = ranking.ranks("linear")
    for encoder in ranking.encoders:
        assert f"{100 * ranking.standings['linear', encoder].value:.1f} ({ranks[encoder]:g})" in line
    agreement = ranking.agreements["linear", "finetune"]
    assert (
        line.split()[-4:]
        == f"{agreement.value:.2f} {agreement.low:.2f} to {agreement.high:.2f}".replace("-", "−").split()
    )
    assert "scenes: differences between encoders, in points of mAP; * decided at 5 % (Holm, 12 comparisons)" in out
    row = next(line for line in out.split("scenes: differences")[1].splitlines() if line.startswith("tiny − random"))
    comparisons = [ranking.comparison(probe, "tiny", "random") for probe in ranking.probes]
    cells = [f"{100 * d.difference.value:+.1f}{'*' * d.decided}".replace("-", "−") for d in comparisons]
    assert row.split()[3:] == cells
    assert all(d.decided for d in comparisons)
    assert "Under linear: " in out
    assert "No probe changes the order of two encoders significantly" in out
    assert "6 pairs of an encoder and a data set" in out


def test_tau_is_not_shown_without_fine_tuning(capsys: pytest.CaptureFixture[str]) -> None:
    out = run_rank(["--dataset", "birds_2"], capsys)
    assert "τ to" not in out
    assert "scenes" not in out


def test_filters_select_encoders_and_probes_and_reduce_the_family_of_tests(capsys: pytest.CaptureFixture[str]) -> None:
    filters = [
        "--dataset",
        "scenes",
        "--encoder",
        "tiny",
        "--encoder",
        "whisper",
        "--probe",
        "linear",
        "--probe",
        "mean",
    ]
    out = run_rank(filters, capsys)
    assert "Holm, 2 comparisons" in out
    assert "random" not in out
    assert "protobin" not in out


def test_csv_and_json_contain_all_values_in_rows_with_the_same_columns(
    rankings: Rankings, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = json.loads(run_rank(["--format", "json"], capsys))
    table = list(csv.DictReader(io.StringIO(run_rank(["--format", "csv"], capsys))))
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows] == table
    counts = {kind: sum(row["kind"] == kind for row in rows) for kind in dict.fromkeys(row["kind"] for row in rows)}
    assert counts == {"standing": 12 + 9, "difference": 12 + 9, "tau": 6 + 3, "wins": 6, "average rank": 3}
    ranking = ranking_of(rankings, "scenes")
    scene_rows = [row for row in rows if row["dataset"] == "scenes"]
    for row in (row for row in scene_rows if row["kind"] == "difference"):
        comparison = next(
            d
            for d in ranking.comparisons
            if (d.probe, d.a, d.b) == (row["probe"], row["encoder"], row["other_encoder"])
        )
        assert (row["value"], row["low"], row["p"]) == (
            comparison.difference.value,
            comparison.difference.low,
            comparison.difference.p,
        )
        assert (row["p_holm"], row["decided"]) == (comparison.p, comparison.decided)
    for row in (row for row in scene_rows if row["kind"] == "standing"):
        standing = ranking.standings[row["probe"], row["encoder"]]
        assert (row["value"], row["trainings"]) == (standing.value, len(standing.estimate.per_seed))
        assert row["rank"] == ranking.ranks(row["probe"])[row["encoder"]]
        assert (row["sd_over_trainings"] is None) == (row["probe"] == "finetune")
    for row in (row for row in scene_rows if row["kind"] == "tau"):
        agreement = ranking.agreements[row["probe"], row["other_probe"]]
        assert (row["value"], row["low"], row["high"]) == (agreement.value, agreement.low, agreement.high)


def test_latex_is_balanced_booktabs_in_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    out = run_rank(["--format", "latex"], capsys)
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
    blocks = re.findall(r"(?:^\|.*\n)+", run_rank(["--format", "markdown"], capsys), re.MULTILINE)
    assert len(blocks) == 8
    for block in blocks:
        assert len({line.count("|") for line in block.splitlines()[:1] + block.splitlines()[2:]}) == 1


def test_formats_are_those_of_results() -> None:
    for form in arguments.FORMATS:
        assert arguments.parser().parse_args(["rank", "--format", form]).format == form


def test_the_error_without_a_ranking_names_what_a_ranking_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", "--encoder", "tiny", "--dataset", "scenes"]) == 2
    assert "needs a data set with two encoders under the same probe" in capsys.readouterr().err
    assert main(["rank", "--encoder", "tinny"]) == 2
    assert "there are encoders random, tiny, whisper" in capsys.readouterr().err
    assert main(["rank", "--out", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_help_of_rank_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom otoscope.cli import main\n"
        "try: main(['rank', '--help'])\nexcept SystemExit as end: assert end.code == 0\n"
        "print([m for m in ('torch', 'numpy', 'scipy', 'csv') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_dots_are_drawn_at_the_ranks_and_undecided_neighbours_are_linked(rankings: Rankings) -> None:
    ranking = ranking_of(rankings, "scenes")
    svg = charts.bump_chart(ranking, ranking.encoders)
    circle = r'<circle class="rank colour(\d)" cx="([\d.]+)" cy="([\d.]+)" r="13"><title>(\w+), (\w+):'
    dots = re.findall(circle, svg)
    assert len(dots) == 12
    heights = {rank: charts.HEADER_HEIGHT + charts.ROW_HEIGHT * (rank - 0.5) for rank in (1, 2, 3)}
    for colour, _, y, encoder, probe in dots:
        assert ranking.encoders[int(colour)] == encoder
        assert float(y) == pytest.approx(heights[int(ranking.ranks(probe)[encoder])])
    columns = {probe: float(x) for _, x, _, _, probe in dots}
    assert sorted(columns, key=lambda probe: columns[probe]) == list(ranking.probes)
    assert list(columns)[-1] == "finetune"
    linked = {(float(x), float(a), float(b)) for x, a, b in re.findall(
        r'class="undecided" x1="([\d.]+)" y1="([\d.]+)" x2="[\d.]+" y2="([\d.]+)"', svg
    )}  # fmt: skip
    expected = {
        (columns[probe], heights[position], heights[position + 1])
        for probe in ranking.probes
        for position, (one, other) in enumerate(itertools.pairwise(ranking.order(probe)), 1)
        if not ranking.comparison(probe, one, other).decided
    }
    assert linked == expected
    assert 0 < len(expected) < 8
    assert svg.count("τ ") == 3


def test_an_encoder_without_results_of_the_first_and_last_probe_is_labelled_once(tmp_path: Path) -> None:
    store, clips = Store(tmp_path / "r"), LabelledClips.random("scenes")
    for noise_seed, encoder in enumerate(("a", "b")):
        add_trainings(store, clips, encoder, {"mean": 0.2, "linear": 0.5, "mhca": 1.0}, noise_seed=noise_seed)
    add_trainings(store, clips, "inner", {"linear": 0.4}, noise_seed=5)
    (ranking,) = rank(store).rankings
    svg = charts.bump_chart(ranking, ranking.encoders)
    assert len(re.findall(r">a</text>", svg)) == len(re.findall(r">b</text>", svg)) == 2
    assert len(re.findall(r">inner</text>", svg)) == 1


@pytest.mark.parametrize(("number", "decided"), [(1, False), (4, False), (50, True)])
def test_encoders_are_not_decided_by_clips_of_few_groups(tmp_path: Path, number: int, decided: bool) -> None:
    store, clips = Store(tmp_path / "r"), LabelledClips.random("scenes")
    for encoder, skill in (("good", 3.0), ("poor", 0.3)):
        add_trainings(store, clips, encoder, {"linear": skill, "finetune": skill + 0.2})
    record = next(iter(store))
    predictions = store.predictions(record)
    assert predictions is not None
    groups = tuple((f"site {i % number}",) for i in range(len(predictions.ids)))
    store.add(replace(record, seed=9), replace(predictions, groups=groups))
    (ranking,) = (ranked := rank(store)).rankings
    assert ranking.groups == number
    assert [comparison.decided for comparison in ranking.comparisons] == [decided] * 2
    text, svg = rankings_text(ranked, "table"), charts.bump_chart(ranking, ranking.encoders)
    assert ("only" in text) == (not decided)
    assert "nan" not in text + svg
    assert ("…" in svg) == (number > 1)


def test_the_win_matrix_shows_every_count(rankings: Rankings) -> None:
    assert rankings.board is not None
    svg = charts.win_matrix(rankings.board)
    titles = re.findall(r"<title>(\w+) wins over (\w+) in (\d+) of (\d+) pairs</title>", svg)
    for one, other, wins, compared in titles:
        i, j = (rankings.board.probes.index(name) for name in (one, other))
        assert (int(wins), int(compared)) == (rankings.board.wins[i, j], rankings.board.compared[i, j])
    assert len(titles) == 6
    assert svg.count('class="blank"') == 3


def test_probes_under_one_bar_are_exactly_those_within_the_critical_difference() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        ranks = np.sort(rng.uniform(1, 6, 6))
        groups = charts._groups(ranks, 1.3)
        for i, j in itertools.combinations(range(6), 2):
            assert any(a <= i and j <= b for a, b in groups) == (ranks[j] - ranks[i] <= 1.3)
        assert all(not (a <= c and d <= b) for (a, b), (c, d) in itertools.permutations(groups, 2))


def test_the_critical_difference_diagram_places_probes_by_rank() -> None:
    probe_ranks = ProbeRanks(("a", "b", "c"), 5, stats.AverageRanks(np.array([1.0, 2.2, 2.8]), 9.0, 0.01, 0.8))
    svg = charts.critical_difference(probe_ranks)
    xs = [float(x) for x in re.findall(r'class="dot-best" cx="([\d.]+)"', svg)]
    assert (xs[1] - xs[0]) / (xs[2] - xs[0]) == pytest.approx(1.2 / 1.8, abs=1e-3)
    assert svg.count('class="group"') == 1
    assert "CD 0.80" in svg
    assert probe_ranks.different_from("a") == ["b", "c"]


def test_the_report_shows_rankings_of_several_encoders(store: Store, tmp_path: Path) -> None:
    path = write_report(store.path, tmp_path / "report.html")
    html, text = path.read_text(), " ".join(parse_page(path).text)
    assert all(heading in text for heading in HEADINGS)
    assert html.count('aria-label="rank of 3 encoders on') == 2
    assert "No probe changes the order of two encoders significantly" in text
    assert 'aria-label="average rank of each probe' in html
    assert "Omitted from rankings" not in text
    assert parse_page(path).open == []


def test_the_report_names_what_its_rankings_leave_out(store: Store, tmp_path: Path) -> None:
    add_trainings(store, LabelledClips.random("scenes"), "tiny", {"cgp": 1.0})
    text = " ".join(parse_page(write_report(store.path, tmp_path / "report.html")).text)
    assert "Omitted from rankings and comparisons" in text
    assert "scenes: only tiny has cgp" in text


def test_the_report_of_one_encoder_has_no_rankings(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    add_trainings(store, LabelledClips.random("scenes"), "tiny", {"linear": 0.5, "mean": 0.3, "protobin": 1.0})
    text = " ".join(parse_page(write_report(store.path, tmp_path / "report.html")).text)
    assert not any(heading in text for heading in HEADINGS)
    add_trainings(store, LabelledClips.random("birds", seed=1), "tiny", {"linear": 0.5, "mean": 0.3, "protobin": 1.0})
    text = " ".join(parse_page(write_report(store.path, tmp_path / "report.html")).text)
    assert [heading in text for heading in HEADINGS] == [False, True]
