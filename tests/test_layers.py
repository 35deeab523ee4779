"""Layer profiles: the command `layers`, its tables, and the section of the report."""

from __future__ import annotations

import math
import re
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers_html import parse_page
from helpers_records import add_scenes
from otoscope import encoders
from otoscope.bench import runner
from otoscope.bench.layers import PROBES, layer_suite, trained_by_gradient
from otoscope.bench.specs import DatasetSpec, EncoderSpec, ProbeSpec
from otoscope.cli import main
from otoscope.cli.arguments import parser
from otoscope.encoders import Features
from otoscope.metrics.stats import Interval
from otoscope.probes import LinearHeadProbe
from otoscope.report.html.figures import WIDTH
from otoscope.report.html.layer_chart import RIGHT, Curve, layer_chart
from otoscope.report.html.page import write_report
from otoscope.report.layers import LayerProfile, layer_profiles, without_inner_layers
from otoscope.report.rows import summarise
from otoscope.report.text.layers import layers_text
from otoscope.results import Store
from otoscope.train import once
from otoscope.types import Tokens, TokenShape
from otoscope.warning import OtoscopeWarning
from toys import Ear, run_toy

SKILLS = (0.2, 0.9, 2.0, 0.6, 0.4)
"""Skill of a simulated probe at each of five layers. Layer 2 is best."""


class DeepEar(Ear):
    """`Ear` with five layers. The odd ones add noise of the strength of the tokens, a chaotic function of each clip."""

    shape = TokenShape(layers=5, freq=2, dim=12, has_cls=True, frame_rate=10)

    def embed(self, features: Features) -> Tokens:
        x = super().embed(features).x[:, :1]
        noise = torch.sin(1e4 * x.roll(1, -1)) * 1.4 * x.std((1, 2, 3, 4), keepdim=True)
        x = torch.cat([x, x + noise, x, x + noise, x], 1)
        return Tokens(x, torch.ones(x.shape[0], x.shape[2], dtype=torch.bool), x.mean((2, 3)))


def simulate(
    store: Store, skills: tuple[float, ...] = SKILLS, *, control: bool = False, validation: bool = True
) -> None:
    """Add the probe `linear` at every layer with these skills, and at all layers together with skill 1."""
    encoder = "tiny-random" if control else "tiny"
    for layers, skill in [*(((i,), skill) for i, skill in enumerate(skills)), (tuple(range(len(skills))), 1.0)]:
        label = f"linear, layer {layers[0]}" if len(layers) == 1 else "linear, all layers"
        changes = {"validation": 0.1 * skill} if validation else {}
        protocol = {"layers": layers, "probe": "linear", "control": control, "training": None}
        add_scenes(store, label, skill, seeds=1, encoder=encoder, protocol=protocol, lr=None, **changes)


def profiles_of(store: Store) -> list[LayerProfile]:
    return layer_profiles(summarise(store, resamples=200))


@pytest.fixture
def deep_encoder(toy_plugins: None) -> EncoderSpec:  # noqa: ARG001
    encoders.register("deep-ear")(DeepEar)
    return EncoderSpec("deep-ear")


def test_suite_has_each_layer_and_all_layers_with_the_exact_solver(deep_encoder: EncoderSpec) -> None:
    suite = layer_suite(deep_encoder, DatasetSpec("tones"), ["linear", "fixedproto"])
    assert [spec.label for spec in suite.probes][3:7] == [
        "linear, layer 3",
        "linear, layer 4",
        "linear, all layers",
        "fixedproto, layer 0",
    ]
    assert [spec.layer for spec in suite.probes][:6] == [0, 1, 2, 3, 4, (0, 1, 2, 3, 4)]
    assert suite.probes[0].options == {"solver": "exact"}
    assert trained_by_gradient(["linear", "mhca", "fixedproto", "knn"]) == ["mhca"]


def test_chosen_layers_are_sorted_and_counted_from_the_end(deep_encoder: EncoderSpec) -> None:
    suite = layer_suite(deep_encoder, DatasetSpec("tones"), ["mean"], layers=[-1, 0, 4])
    assert [spec.label for spec in suite.probes] == ["mean, layer 0", "mean, layer 4", "mean, layers 0, 4"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--probes", "linaer"], "did you mean 'linear'"),
        (["--probes", "linear,cgp"], "probe 'cgp' always reads all layers and has no score for a single layer"),
        (["--layers", "0,7"], "layers [0, 7] were requested, the bank holds 2 (0 .. 1)"),
        (["--layers", "1"], "encoder 'ear' has 2 layers, of which one was chosen"),
        (["--encoder", "shallow"], "encoder 'shallow' has one layer; a layer profile needs at least two layers"),
    ],
)
def test_invalid_arguments_print_one_line(
    arguments: list[str], message: str, plugin_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shallow = type("Shallow", (Ear,), {"shape": TokenShape(1, 2, 12, True, 10)})
    encoders.register("shallow")(shallow)
    assert run_toy("layers", "--out", str(plugin_folder / "out"), *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (plugin_folder / "out").exists()


def test_probe_that_is_trained_by_gradient_is_announced(
    plugin_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise ValueError("stopped before the training")

    monkeypatch.setattr(runner, "run_suite", stop)
    arguments = ["--plugin", "toy.py", "--encoder", "ear", "--dataset", "tones", "--out", str(plugin_folder)]
    announced = {}
    for names in ("ep,linear", "linear"):
        assert main(["layers", *arguments, "--probes", names]) == 2
        announced[names] = "ep cannot be solved exactly" in capsys.readouterr().err
    assert announced == {"ep,linear": True, "linear": False}


def test_second_call_measures_nothing_and_prints_the_same_tables(
    plugin_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--out", str(plugin_folder / "out"), "--probes", "stats,linear")
    assert run_toy("layers", *arguments) == 0
    first = capsys.readouterr().out
    monkeypatch.setattr(Ear, "embed", None)
    assert run_toy("layers", *arguments) == 0
    second = capsys.readouterr().out
    assert first.partition("\nreport:")[0] == second.partition("\nreport:")[0]
    assert "nothing to do: all 6 runs are finished" in second
    assert first.splitlines()[1].split() == ["layer", "linear", "stats"]
    assert "<h2>Layer by layer</h2>" in (plugin_folder / "out" / "report.html").read_text()


def test_layers_without_noise_are_better_and_validation_chooses_one_of_them(
    deep_encoder: EncoderSpec, tmp_path: Path
) -> None:
    suite = layer_suite(deep_encoder, DatasetSpec("tones"), ["linear"])
    result = runner.run_suite(suite, tmp_path, progress=False)
    assert not result.failures
    banks = list((tmp_path / "banks").iterdir())
    assert len(banks) == 1
    (profile,) = profiles_of(result.store)
    values = [profile.single[layer].value for layer in range(5)]
    assert min(values[0::2]) > max(values[1::2])
    assert profile.best_layer in (0, 2, 4)
    assert profile.together is not None
    assert all(0 < (row.records[0].validation or 0) <= 1 for row in profile.rows)


def test_a_later_suite_reads_the_bank_of_all_layers(deep_encoder: EncoderSpec, tmp_path: Path) -> None:
    suite = replace(layer_suite(deep_encoder, DatasetSpec("tones"), ["fixedproto"]), control=False)
    profile = {record.probe: record for record in runner.run_suite(suite, tmp_path, progress=False).store}
    banks = list((tmp_path / "banks").iterdir())
    later = replace(suite, probes=(ProbeSpec("fixedproto"),))
    (record,) = [r for r in runner.run_suite(later, tmp_path, progress=False).store if r.probe == "fixedproto"]
    assert list((tmp_path / "banks").iterdir()) == banks
    assert record.protocol.layers == (4,)
    assert record.value == profile["fixedproto, layer 4"].value


def test_profile_marks_the_best_layer_on_validation_not_on_test(tmp_path: Path) -> None:
    store = Store(tmp_path)
    simulate(store)
    for record in list(store):
        if record.protocol.layers == (3,):
            predictions = store.predictions(record)
            store.remove(record)
            store.add(type(record)(**{**vars(record), "validation": 0.9}), predictions)
    (profile,) = profiles_of(store)
    assert max(profile.single, key=lambda layer: profile.single[layer].value) == 2
    assert profile.best_layer == 3
    marked = [line for line in layers_text([profile]).splitlines() if "◆" in line]
    assert marked[0].startswith("3 ")


def test_records_without_validation_scores_mark_no_layer(tmp_path: Path) -> None:
    simulate(Store(tmp_path), validation=False)
    (profile,) = profiles_of(Store(tmp_path))
    assert profile.best_layer is None
    assert "◆" not in layers_text([profile])


def test_rows_that_have_not_converged_are_marked_and_listed(tmp_path: Path) -> None:
    simulate(Store(tmp_path), (0.5, 1.0))
    add_scenes(Store(tmp_path), "mean", 0.5, seeds=1, protocol={"layers": (0,)}, not_converged=())
    reasons = {"not_converged": ("still improving in the last epochs",)}
    add_scenes(Store(tmp_path), "mean", 0.5, seeds=1, protocol={"layers": (1,)}, **reasons)
    lines = layers_text(profiles_of(Store(tmp_path))).splitlines()
    assert ["‡" in line for line in lines[3:5]] == [False, True]
    assert lines[-1] == "‡ not converged, still improving in the last epochs: tiny, scenes, mean (layers=1)."


def test_difference_from_the_control_is_paired_and_has_a_table(tmp_path: Path) -> None:
    simulate(Store(tmp_path))
    simulate(Store(tmp_path), (0.2, 0.2, 0.2, 0.2, 0.2), control=True)
    profile, control = profiles_of(Store(tmp_path))
    assert control.rows[0].control
    assert control.control is None
    best = profile.beyond_control(profile.single[2])
    same = profile.beyond_control(profile.single[0])
    assert best is not None
    assert same is not None
    assert best.low > 0
    assert math.isclose(best.value, profile.single[2].value - control.single[2].value)
    assert same.value == 0
    assert -same.low == same.high < 0.06, "all resamples agree"
    assert "tiny beyond tiny-random: points of mAP more than random weights" in layers_text([profile])


def test_differences_of_other_clips_have_no_interval(tmp_path: Path) -> None:
    simulate(Store(tmp_path))
    simulate(Store(tmp_path), control=True)
    store = Store(tmp_path)
    record = next(r for r in store if r.protocol.control and r.protocol.layers == (1,))
    (tmp_path / "predictions" / f"{record.key}.npz").unlink()
    with pytest.warns(OtoscopeWarning, match="is missing"):
        profile = profiles_of(store)[0]
    difference = profile.beyond_control(profile.single[1])
    assert difference is not None
    assert np.isnan(difference.low)


def test_tables_of_all_probes_list_the_last_layer_and_all_layers(tmp_path: Path) -> None:
    simulate(Store(tmp_path))
    add_scenes(Store(tmp_path), "mean", 0.5, seeds=1, protocol={"layers": (4,)})
    rows = without_inner_layers(summarise(Store(tmp_path), resamples=20))
    assert sorted(row.label for row in rows) == ["linear, all layers", "linear, layer 4", "mean"]
    assert [row.label for row in rows if row.winner] == ["linear, all layers"]


def test_a_profile_of_few_layers_stays_in_the_tables(tmp_path: Path) -> None:
    simulate(Store(tmp_path), (0.5, 1.0, 0.7))
    rows = summarise(Store(tmp_path), resamples=20)
    assert len(layer_profiles(rows)) == 1
    assert [row.label for row in without_inner_layers(rows)] == [row.label for row in rows]


def test_report_draws_a_curve_for_each_probe_and_a_dashed_one_for_the_control(tmp_path: Path) -> None:
    simulate(Store(tmp_path / "results"))
    write_report(tmp_path / "results", tmp_path / "one.html")
    simulate(Store(tmp_path / "results"), control=True)
    write_report(tmp_path / "results", tmp_path / "two.html")
    one, two = (parse_page(tmp_path / f"{name}.html") for name in ("one", "two"))
    assert one.open == two.open == []
    assert not [load for load in two.loads if not load.startswith("data:")]
    assert (one.tags.count("polyline"), two.tags.count("polyline")) == (1, 3)
    assert (one.tags.count("polygon"), two.tags.count("polygon")) == (1, 2)
    assert sum("linear, layer 2: " in text for text in one.text) == 1
    assert "all" in one.text
    assert any("best layer on the validation split" in text for text in one.text)
    assert any("whose weights are random" in text for text in two.text)


def curves(*values: tuple[float, ...]) -> list[Curve]:
    """Curves without intervals, each with its last value for all layers together."""
    intervals = [[Interval(value, math.nan, math.nan) for value in row] for row in values]
    return [Curve(f"probe{i}", dict(enumerate(row)), row[-1], i) for i, row in enumerate(intervals)]


def test_the_axis_of_values_begins_at_zero_unless_they_are_close() -> None:
    def lowest(*values: float) -> str:
        return re.findall(
            r'class="tick"[^>]*text-anchor="end">([^<]+)<', layer_chart(curves(values), "all", "a chart")
        )[0]

    assert lowest(0.2, 0.9) == "0"
    assert lowest(0.86, 0.93) == "86"
    assert lowest(-0.05, 0.1).endswith("5")


@pytest.mark.parametrize("count", [1, 3, 6])
def test_values_of_all_layers_together_are_beside_one_another_and_left_of_the_names(count: int) -> None:
    drawn = layer_chart(curves(*[(0.5, 0.6)] * count), "all", "a chart")
    x = [float(x) for x in re.findall(r'cx="([\d.]+)"[^>]*><title>[^<]*layers together', drawn)]
    assert len(set(x)) == count
    assert sum(x) / count == pytest.approx(WIDTH - RIGHT, abs=0.1)
    assert max(x) < WIDTH - RIGHT + 20


def test_report_without_a_profile_has_no_such_section(tmp_path: Path) -> None:
    add_scenes(Store(tmp_path / "results"), "linear", 0.5, protocol={"layers": (4,)})
    write_report(tmp_path / "results", tmp_path / "report.html")
    assert "Layer by layer" not in (tmp_path / "report.html").read_text()


def test_default_probes_of_the_command_are_those_of_the_suite() -> None:
    assert parser().parse_args(["layers"]).probes.split(",") == list(PROBES)


def test_layers_together_use_the_features_of_the_single_layers(
    deep_encoder: EncoderSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers_read = []
    compute = once.head_inputs

    def count(module: LinearHeadProbe, *rest: Any) -> AbstractContextManager[torch.Tensor]:
        layers_read.append(module.shape.layers)
        return compute(module, *rest)

    monkeypatch.setattr(once, "head_inputs", count)
    suite = replace(layer_suite(deep_encoder, DatasetSpec("tones"), ["stats", "fixedproto"]), control=False)
    shared = {record.probe: record for record in runner.run_suite(suite, tmp_path / "a", progress=False).store}
    assert layers_read == [1] * (2 * 2 * 5)
    together = replace(suite, probes=tuple(spec for spec in suite.probes if "all layers" in spec.label))
    alone = {record.probe: record for record in runner.run_suite(together, tmp_path / "b", progress=False).store}
    assert sorted(alone) == ["fixedproto, all layers", "stats, all layers"]
    for label, record in alone.items():
        assert (record.value, record.validation) == (shared[label].value, shared[label].validation)


def test_features_of_other_prototypes_are_not_reused(deep_encoder: EncoderSpec, tmp_path: Path) -> None:
    suite = replace(layer_suite(deep_encoder, DatasetSpec("tones"), ["fixedproto"]), control=False)
    random = tuple(replace(spec, options={"source": "random", "prototypes": 5}) for spec in suite.probes)
    shared = list(runner.run_suite(replace(suite, probes=random), tmp_path / "a", progress=False).store)
    alone = list(runner.run_suite(replace(suite, probes=random[-1:]), tmp_path / "b", progress=False).store)
    assert alone[0].validation == next(r for r in shared if r.probe == alone[0].probe).validation
