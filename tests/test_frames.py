"""Targets and metrics of time steps, and the frame probe that is solved exactly on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from torch import Tensor
from torch.nn import functional

import otoscope
from otoscope import metrics
from otoscope.bank import Bank, BankError, BankSplit
from otoscope.bench.specs import FinetuneSpec, ProbeSpec
from otoscope.encoders import Features
from otoscope.ops.logistic import Design, solve
from otoscope.probes import FixedFeatureFrameProbe
from otoscope.sampling import FOLDS, split_folds
from otoscope.train import FittedProbe, TrainingConfig, _head_inputs, fit, load
from otoscope.types import Clip, Event, Tokens
from toys import TONES, Ear, Folded, Tones, run_toy

CLASSES = tuple(TONES)
SHORT = 600
"""Samples of the short clips of `Varied`: six time steps of ten."""


class Varied(Tones):
    """`Tones` in which every third clip ends after 0.6 seconds. Its events may end later."""

    name, digest = "varied", "varied-1"

    def clips(self, split: str) -> Sequence[Clip]:
        clips = super().clips(split)
        return [clip if i % 3 else replace(clip, load=_Cut(clip)) for i, clip in enumerate(clips)]


class _Cut:
    """Loads the first samples of a clip, and can be pickled."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip

    def __call__(self) -> Any:
        return self.clip.audio[:SHORT]


class ScaledEar(Ear):
    """`Ear` with tokens multiplied by `scale` and moved by `shift`: the same information."""

    def __init__(self, *, scale: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.scale, self.shift = scale, shift
        self.front_end_id = f"{Ear.front_end_id}-{scale:g}-{shift:g}"

    def embed(self, features: Features) -> Tokens:
        tokens = super().embed(features)
        return Tokens(tokens.x * self.scale + self.shift, tokens.mask, tokens.cls)


class WithEvents(Tones):
    """`Tones` whose events are replaced."""

    name, digest = "replaced", "replaced-1"

    def __init__(self, change: Callable[[tuple[Event, ...]], tuple[Event, ...]]) -> None:
        super().__init__()
        self.change = change

    def clips(self, split: str) -> Sequence[Clip]:
        return [replace(clip, events=self.change(clip.events)) for clip in super().clips(split)]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    folder = tmp_path_factory.mktemp("bank") / "b"
    return otoscope.bank.extract(Ear(), Varied(), folder, layers="all", dtype="float32", progress=False)


@pytest.fixture(scope="module")
def fitted(bank: Bank) -> FittedProbe:
    return fit("linear-frame", bank)


def slow_targets(events: Sequence[Sequence[Event]], frame_rate: float, steps: int) -> np.ndarray:
    """A class is active in a step if the intersection of an event and the step is longer than nothing."""
    active = np.zeros((len(events), steps, len(CLASSES)), bool)
    for clip, step, column in np.ndindex(active.shape):
        for event in events[clip]:
            overlap = min(event.offset, (step + 1) / frame_rate) - max(event.onset, step / frame_rate)
            active[clip, step, column] |= event.label == CLASSES[column] and overlap * frame_rate > 1e-5
    return active


def frames(split: BankSplit, layers: Sequence[int] = (1,)) -> tuple[Tensor, Tensor, Tensor]:
    """Features [m, W], targets [m, C] and clips [m] of the valid time steps, each computed by itself."""
    tokens = split.tokens(slice(None))
    active = slow_targets(split.events, split.shape.frame_rate, split.steps)
    valid = [(clip, step) for clip in range(len(split)) for step in range(split.steps) if tokens.mask[clip, step]]
    x = torch.stack([torch.cat([tokens.x[clip, layer, step].mean(0) for layer in layers]) for clip, step in valid])
    y = torch.stack([torch.from_numpy(active[clip, step]).float() for clip, step in valid])
    return x, y, torch.tensor([clip for clip, _ in valid])


class TestTargets:
    @pytest.mark.parametrize("frame_rate", [6.25, 10.0, 50.0, 12.3])
    def test_they_equal_a_slow_reference(self, frame_rate: float) -> None:
        rng, steps = np.random.default_rng(0), 40
        events: list[list[Event]] = [[] for _ in range(30)]
        for clip in range(1, 30):
            for label in rng.choice(CLASSES, clip % 5):
                onset = float(rng.uniform(0, 1.1 * steps / frame_rate))
                events[clip].append(Event(onset, onset + float(rng.exponential(3 / frame_rate)) + 1e-3, str(label)))
        targets = metrics.frame_targets(events, CLASSES, frame_rate, steps)
        assert targets.shape == (30, steps, 3)
        assert 0 < targets.mean() < 1
        assert np.array_equal(targets, slow_targets(events, frame_rate, steps))

    @pytest.mark.parametrize("frame_rate", [6.25, 10.0, 50.0, 62.5])
    def test_events_that_begin_and_end_with_a_step_have_no_others(self, frame_rate: float) -> None:
        for first, end in [(0, 1), (3, 6), (7, 29), (29, 30)]:
            event = Event(first / frame_rate, first / frame_rate + (end - first) / frame_rate, "low")
            targets = metrics.frame_targets([[event]], CLASSES, frame_rate, 30)
            assert np.flatnonzero(targets[0, :, 0]).tolist() == list(range(first, end))
            assert not targets[0, :, 1:].any()

    def test_an_event_is_active_in_at_least_one_step(self) -> None:
        targets = metrics.frame_targets([[Event(0.3, 0.3 + 1e-9, "high")]], CLASSES, 10, 5)
        assert np.argwhere(targets).tolist() == [[0, 3, 2]]

    def test_other_labels_and_rates_are_refused(self) -> None:
        with pytest.raises(ValueError, match="clip 1 has an event 'noise', which is not one of the 3 classes"):
            metrics.frame_targets([[], [Event(0, 1, "noise")]], CLASSES, 10, 5)
        with pytest.raises(ValueError, match=r"above 0 time steps per second, found 0"):
            metrics.frame_targets([[]], CLASSES, 0, 5)


class TestMetrics:
    events = ((Event(0.1, 0.35, "low"), Event(0.0, 0.2, "high")), (Event(0.2, 0.9, "middle"),))
    mask = torch.arange(6) < torch.tensor([[6], [4]])

    def test_they_are_those_of_scikit_learn_on_valid_steps(self) -> None:
        logits = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
        scores = metrics.evaluate_frames(logits, self.mask, self.events, CLASSES, 10)
        targets = slow_targets(self.events, 10, 6)[self.mask.numpy()]
        expected = average_precision_score(targets, logits[self.mask].numpy(), average="macro")
        assert scores["mAP"] == pytest.approx(expected)
        assert list(scores) == metrics.names("multi-label")
        logits[~self.mask] = torch.nan
        assert metrics.evaluate_frames(logits, self.mask, self.events, CLASSES, 10) == scores

    def test_other_shapes_are_refused(self) -> None:
        logits = torch.zeros(2, 6, 3)
        for shown, mask in ((logits[:, :5], self.mask), (logits, self.mask[:1]), (logits, self.mask.float())):
            with pytest.raises(ValueError, match=r"logits \[n, T, C\] and a mask bool \[n, T\] for the events of 2"):
                metrics.evaluate_frames(shown, mask, self.events, CLASSES, 10)
        with pytest.raises(ValueError, match="no positive"):
            metrics.evaluate_frames(logits, self.mask, [(), ()], CLASSES, 10)


class TestExactFrameProbe:
    @pytest.mark.parametrize("layers", [None, "all"])
    def test_the_layer_is_at_the_optimum_of_scikit_learn(self, bank: Bank, layers: str | None) -> None:
        probe = fit("linear-frame", bank, TrainingConfig(layers=layers))
        assert isinstance(probe.module, FixedFeatureFrameProbe)
        x, y, _ = (tensor.double() for tensor in frames(bank.split("train"), probe.layers))
        assert len(x) == 32 * 10 + 16 * 6
        penalty = max(probe.history, key=lambda row: (row["validation"], row["penalty"]))["penalty"]
        mean, scale = x.mean(0), x.std(0, correction=0)
        standardised = (x - mean) / scale

        def objective(weight: Tensor, bias: Tensor) -> float:
            logits = standardised @ weight.T + bias
            loss = functional.binary_cross_entropy_with_logits(logits, y, reduction="none").mean(0).sum()
            return float(loss + penalty / 2 * weight.square().sum())

        layer = probe.module.last_layer
        weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
        settings = {"C": 1 / (len(x) * penalty), "tol": 1e-10, "max_iter": 10_000}
        models = [LogisticRegression(**settings).fit(standardised.numpy(), column.numpy()) for column in y.T]
        expected = objective(
            *(torch.from_numpy(np.concatenate([getattr(m, n) for m in models])) for n in ("coef_", "intercept_"))
        )
        assert objective(weight * scale, bias + weight @ mean) <= expected * (1 + 1e-6)

    def test_the_score_is_the_mean_average_precision_over_valid_steps(self, bank: Bank, fitted: FittedProbe) -> None:
        split = bank.split("validation")
        logits, tokens = fitted.predict_logits(split), split.tokens(slice(None))
        assert logits.shape == (24, 10, 3)
        _, y, _ = frames(split)
        expected = average_precision_score(y.numpy(), logits[tokens.mask].numpy(), average="macro")
        assert fitted.validation == pytest.approx(expected, abs=1e-4)
        assert fitted.validation > 0.8
        scores = metrics.evaluate_frames(logits, tokens.mask, split.events, CLASSES, split.shape.frame_rate)
        assert scores["mAP"] == pytest.approx(expected)
        assert torch.equal(fitted.predict_logits(tokens), logits)
        assert fitted.lr is None
        assert fitted.protocol.solver == "exact"

    def test_features_in_a_temporary_file_give_the_same_probe(
        self, bank: Bank, fitted: FittedProbe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mapped, read = [], np.memmap

        def counted(*arguments: Any, **options: Any) -> Any:
            mapped.append(options["shape"])
            return read(*arguments, **options)

        monkeypatch.setattr(np, "memmap", counted)
        monkeypatch.setattr(_head_inputs, "IN_MEMORY", 0)
        actual = fit("linear-frame", bank)
        assert mapped == [(480, 12), (240, 12)]
        split = bank.split("validation")
        torch.testing.assert_close(actual.predict_logits(split), fitted.predict_logits(split), rtol=1e-3, atol=1e-3)

    def test_a_saved_probe_gives_the_same_logits(self, bank: Bank, tmp_path: Path) -> None:
        split = bank.split("validation")
        for norm in ("none", "layer"):
            probe = fit("linear-frame", bank, options={"norm": norm})
            probe.save(tmp_path / norm)
            loaded = load(tmp_path / norm)
            assert torch.equal(loaded.predict_logits(split), probe.predict_logits(split))
            assert (loaded.task, loaded.validation) == (probe.task, probe.validation)
        probe.save(tmp_path / "int8", head_dtype="int8")
        torch.testing.assert_close(
            load(tmp_path / "int8").predict_logits(split), probe.predict_logits(split), rtol=0, atol=0.3
        )

    @pytest.mark.parametrize("change", [{"scale": 0.02}, {"scale": 50.0}, {"shift": 3.0}])
    def test_scale_and_shift_of_all_tokens_change_nothing(
        self, fitted: FittedProbe, change: dict[str, float], tmp_path: Path
    ) -> None:
        changed = otoscope.bank.extract(ScaledEar(**change), Varied(), tmp_path, dtype="float32", progress=False)
        assert fit("linear-frame", changed).validation == pytest.approx(fitted.validation, abs=1e-3)

    def test_positive_steps_may_weigh_more(self, bank: Bank, fitted: FittedProbe) -> None:
        weighted = fit("linear-frame", bank, options={"positive_weight": 5.0})
        split = bank.split("validation")
        valid = split.tokens(slice(None)).mask
        assert weighted.predict_logits(split)[valid].mean() > fitted.predict_logits(split)[valid].mean() + 0.5


def test_without_a_validation_split_the_steps_of_a_clip_are_in_one_fold(tmp_path: Path) -> None:
    """The clips have one label each, but several classes or none may be active in a time step."""
    bank = otoscope.bank.extract(Ear(), Folded(fold=1), tmp_path, splits=("train", "test"), progress=False)
    fitted = fit("linear-frame", bank)
    assert (fitted.task.kind, fitted.task.metric) == ("multi-label", "mAP")
    assert fitted.protocol.cross_validation == FOLDS
    train = bank.split("train")
    x, y, clips = frames(train, (0,))
    folds = torch.from_numpy(split_folds(train.targets, train.groups))[clips]
    for row in fitted.history:
        logits = torch.empty_like(y, dtype=torch.float64)
        for fold in range(FOLDS):
            part = Design(x[folds != fold])
            solution = solve(part, y[folds != fold], row["penalty"], kind="multi-label")
            weight, bias = part.restore(solution.weight, solution.bias)
            logits[folds == fold] = x[folds == fold].double() @ weight + bias
        assert row["validation"] == pytest.approx(average_precision_score(y, logits, average="macro"), abs=1e-3)


class TestErrors:
    def test_a_data_set_without_events_is_refused(self, tmp_path: Path) -> None:
        bank = otoscope.bank.extract(Ear(), WithEvents(lambda _: ()), tmp_path / "none", progress=False)
        with pytest.raises(ValueError, match=r"needs events .*but the 48 clips of the train split .*Fit a clip probe"):
            fit("linear-frame", bank)
        bank = otoscope.bank.extract(Ear(), WithEvents(lambda events: events[:1]), tmp_path / "some", progress=False)
        with pytest.raises(ValueError, match=r"an event for every label, but \d+ labels in the train split .*'train-"):
            fit("linear-frame", bank)

    def test_events_behind_the_end_of_all_clips_are_refused(self, tmp_path: Path) -> None:
        late = WithEvents(lambda events: tuple(Event(e.onset + 5, e.offset + 5, e.label) for e in events))
        bank = otoscope.bank.extract(Ear(), late, tmp_path, progress=False)
        with pytest.raises(ValueError, match=r"no valid time step of the train split .* 480 valid time steps; check"):
            fit("linear-frame", bank)

    def test_pooled_vectors_are_refused(self, tmp_path: Path) -> None:
        bank = otoscope.bank.extract(Ear(), Tones(), tmp_path, content="pooled", progress=False)
        with pytest.raises(BankError, match="token maps of split 'train' were requested"):
            fit("linear-frame", bank)

    @pytest.mark.parametrize("probe", ["mhca-frame", "protobin-frame", "protofloat-frame", "cgp-frame", "linear-frame"])
    def test_frame_probes_are_not_trained_by_gradient(self, bank: Bank, probe: str) -> None:
        options = {"solver": "adamw"} if probe == "linear-frame" else {}
        with pytest.raises(TypeError, match=r"trained by gradient.*fit 'linear-frame' with solver='exact'"):
            fit(probe, bank, options=options)

    def test_suites_refuse_frame_probes_before_anything_is_encoded(
        self, plugin_folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(ValueError, match=r"'mhca-frame' emits frame logits.*metrics.evaluate_frames"):
            ProbeSpec("mhca-frame").check()
        with pytest.raises(ValueError, match="head 'linear-frame' emits frame logits; choose a clip probe"):
            FinetuneSpec("finetune", options={"head": "linear-frame"}).check()
        before = sorted(plugin_folder.rglob("*"))
        assert run_toy("probe", "--probe", "linear-frame") != 0
        assert "emits frame logits" in capsys.readouterr().err
        assert sorted(path for path in plugin_folder.rglob("*") if "__pycache__" not in str(path)) == before
