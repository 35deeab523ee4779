"""Mixup views of few-shot draws: their audio, labels and digests, and banks and suites with views."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import otoscope.bank
from helpers_suites import reproducible
from otoscope import run_suite
from otoscope.bank import HeldOutError
from otoscope.bank import _encode as encoding
from otoscope.bench import runner
from otoscope.bench.plan import Pair, studies_of
from otoscope.bench.runner import prepare
from otoscope.bench.specs import DatasetSpec, EncoderSpec, FinetuneSpec, ProbeSpec
from otoscope.bench.suites import Suite, SuiteError
from otoscope.results import Views
from otoscope.sampling import MixupSet, TrainingSet, add_mixup_views, with_few_shot, with_mixup_views
from otoscope.sampling.mixup import P
from otoscope.types import Clip, Event, Task
from toys import Ear, Tones

MANY = Task(("a", "b", "c"), "multi-label", "mAP")
ONE = dataclasses.replace(MANY, kind="multi-class", metric="accuracy")


def clip(name: str, label: str, length: int = 1000, rate: int = 1000, level: float = 1.0) -> Clip:
    wave = (level * np.random.default_rng(len(name) + ord(label)).standard_normal(length)).astype(np.float32)
    return Clip(name, lambda: wave, rate, (label,), (Event(0.1, 0.2, label),), "train")


def views_of(clips: list[Clip], task: Task = MANY, **options: Any) -> list[Clip]:
    clips_and_views = add_mixup_views(clips, task, **{"views": 1} | options)
    assert clips_and_views[: len(clips)] == clips
    return clips_and_views[len(clips) :]


def level(wave: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=float))))


def test_a_view_is_the_clip_with_a_partner_up_to_five_decibels_below_it() -> None:
    pair = [clip("one", "a", level=3.0), clip("other", "b", level=0.01)]
    views = views_of(pair, views=30, p=1.0)
    differences = []
    for view, source in zip(views, pair * 30, strict=True):
        partner = next(other for other in pair if other is not source).audio
        added = view.audio - source.audio
        assert np.corrcoef(added, partner)[0, 1] > 0.999
        differences.append(20 * np.log10(level(source.audio) / level(added)))
    assert 0 <= min(differences) < 1 < 4 < max(differences) <= 5 + 1e-3
    assert len({view.id for view in views} | {"one", "other"}) == 62


def test_a_view_has_the_labels_of_both_clips_or_of_the_louder_one() -> None:
    both, same = [clip("one", "a"), clip("other", "b")], [clip("one", "a"), clip("other", "a")]
    first, second = views_of(both, p=1.0)
    assert (first.labels, second.labels) == (("a", "b"), ("b", "a"))
    assert [event.label for event in first.events] == ["a", "b"]
    assert MANY.targets([first, second]).tolist() == [[1, 1, 0], [1, 1, 0]]
    assert [view.labels for view in views_of(same, p=1.0)] == [("a",), ("a",)]
    grouped = [dataclasses.replace(clip, groups=(f"site {i}",)) for i, clip in enumerate(both)]
    for task in (ONE, MANY):
        assert [view.groups for view in views_of(grouped, task, p=1.0)] == [("site 0", "site 1"), ("site 1", "site 0")]
    assert [view.labels for view in views_of(both, ONE, p=1.0)] == [("a",), ("b",)]
    assert [len(view.events) for view in views_of(both, ONE, p=1.0)] == [1, 1]
    assert not np.array_equal(views_of(both, ONE, p=1.0)[0].audio, both[0].audio)


def test_a_view_is_as_long_as_the_longer_one_at_the_clips_rate() -> None:
    short, long = clip("short", "a", 300), clip("longer", "b", 2000, rate=2000)
    first, second = views_of([short, long], p=1.0)
    assert (len(first.audio), first.rate) == (1000, 1000)
    assert (len(second.audio), second.rate) == (2000, 2000)
    assert level(first.audio[300:]) > 0.1 * level(short.audio)  # the rest of the partner is audible
    assert np.array_equal(second.audio[600:], long.audio[600:])  # the shorter clip ends after 0.3 s
    assert not np.array_equal(second.audio[:600], long.audio[:600])


def test_a_silent_clip_is_mixed_without_a_change_of_level() -> None:
    quiet = dataclasses.replace(clip("quiet", "a"), load=lambda: np.zeros(1000, np.float32))
    loud = clip("loud", "b")
    first, second = views_of([quiet, loud], p=1.0)
    assert np.array_equal(first.audio, loud.audio)
    assert np.array_equal(second.audio, loud.audio)


def test_the_share_of_mixed_views_is_p() -> None:
    clips = [clip(f"clip-{i}", "abc"[i % 3]) for i in range(200)]
    unchanged = sum(view.load is clips[i % 200].load for i, view in enumerate(views_of(clips, views=5)))
    assert abs(unchanged - 1000 * (1 - P)) < 4 * (1000 * P * (1 - P)) ** 0.5
    assert all(view.load is source.load for view, source in zip(views_of(clips, p=0.0), clips, strict=True))
    assert all(view.load is not source.load for view, source in zip(views_of(clips, p=1.0), clips, strict=True))
    (view,) = views_of(clips[:1], p=1.0)
    assert (view.load, view.labels) == (clips[0].load, clips[0].labels)
    partners = {view.load.partner.id for view in views_of(clips, views=5, p=1.0)}  # type: ignore[attr-defined]
    assert len(partners) > 190
    assert add_mixup_views(clips, MANY, views=0) == clips


def test_a_view_depends_only_on_draw_clip_and_number() -> None:
    clips = [clip(f"clip-{i}", "abc"[i % 3]) for i in range(12)]
    waves = [view.audio for view in views_of(clips, views=2)]
    again = [view.audio for view in views_of(clips, views=3)[:24]]
    assert all(np.array_equal(a, b) for a, b in zip(waves, again, strict=True))
    other = [view.audio for view in views_of(clips, views=2, draw=1)]
    assert sum(not np.array_equal(a, b) for a, b in zip(waves, other, strict=True)) > 12
    assert not np.array_equal(waves[0], waves[12])
    mixes = [
        [view.load is source.load for view, source in zip(views_of(c), c, strict=True)] for c in (clips[:6], clips)
    ]
    assert mixes[0] == mixes[1][:6]  # the same clips are mixed if there are more clips


# Data sets and banks


def test_draws_with_views_are_nested_and_do_not_read_the_test_split() -> None:
    data = Tones()
    small, large = (MixupSet(TrainingSet(data, shots=shots, views=2)) for shots in (2, 4))
    ids = [[clip.id for clip in mixup_set.clips("train")] for mixup_set in (small, large)]
    assert set(ids[0]) < set(ids[1])
    assert len(ids[0]) == 3 * len(TrainingSet(data, shots=2).clips("train"))
    assert set(data.opened) == {"train", "validation"}
    with pytest.raises(HeldOutError, match="only its train split"):
        small.clips("validation")


def test_the_digest_covers_everything_that_decides_the_views() -> None:
    changes: list[dict[str, Any]] = [{}, {"shots": 3}, {"draw": 1}, {"views": 3}, {"cut": True}]
    digests = [MixupSet(TrainingSet(Tones(), **{"shots": 2, "views": 2} | change)).digest for change in changes]
    other = Tones()
    other.digest = "tones-2"
    digests.append(MixupSet(TrainingSet(other, shots=2, views=2)).digest)
    assert len(set(digests)) == len(digests)
    assert digests[0] == MixupSet(TrainingSet(Tones(), shots=2, views=2)).digest


def test_a_bank_with_views_differs_only_in_its_train_split(tmp_path: Path) -> None:
    whole = otoscope.bank.extract(Ear(), Tones(), tmp_path / "whole", progress=False)
    training_set = TrainingSet(Tones(), shots=2, views=2)
    views = otoscope.bank.extract(Ear(), MixupSet(training_set), tmp_path / "views", progress=False)
    mixed = with_mixup_views(whole, views, shots=2, draw=0, number=2)
    train, few_shot = mixed.split("train"), with_few_shot(whole, 2).split("train")
    assert train.ids[: len(few_shot)] == few_shot.ids
    assert torch.equal(train.tokens(slice(0, len(few_shot))).x, few_shot.tokens(slice(None)).x)
    assert torch.equal(train.targets, Tones().task.targets(training_set.clips("train")))
    assert mixed.split("validation").ids == whole.split("validation").ids
    assert mixed.identity == whole.identity
    with pytest.raises(HeldOutError):
        mixed.split("test")
    other = otoscope.bank.extract(Ear(seed=1), MixupSet(training_set), tmp_path / "other", progress=False)
    with pytest.raises(ValueError, match="extract the views again"):
        with_mixup_views(whole, other, shots=2, draw=0, number=2)


# Suites


@pytest.fixture
def suite(toy_plugins: None) -> Suite:  # noqa: ARG001
    return Suite(
        name="toy",
        about="a toy",
        encoders=(EncoderSpec("ear"),),
        datasets=(DatasetSpec("tones", shots=3, views=2),),
        probes=(ProbeSpec("linear"), ProbeSpec("knn"), FinetuneSpec("finetune", options={"epochs": 1})),
        draws=2,
        epochs=2,
    )


def test_a_plan_gives_the_exact_size_of_banks_with_views_and_writes_nothing(suite: Suite, tmp_path: Path) -> None:
    plan = prepare(suite, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (size,) = plan.sizes.values()
    assert plan.bytes == size.bytes + sum(views.bytes for views in size.views.values()) > size.bytes
    plain = prepare(dataclasses.replace(suite, datasets=(DatasetSpec("tones", shots=3),)), tmp_path / "out")
    assert plain.bytes == size.bytes
    assert plan.seconds > plain.seconds
    run_suite(suite, tmp_path / "out", progress=False)
    files = list((tmp_path / "out/banks").rglob("*.safetensors"))
    headers = sum(8 + int.from_bytes(file.read_bytes()[:8], "little") for file in files)
    assert sum(file.stat().st_size for file in files) - headers == plan.bytes
    only_finetune = dataclasses.replace(suite, probes=suite.probes[2:])
    assert prepare(only_finetune, tmp_path / "other").bytes == 0


def test_probes_and_fine_tuning_are_trained_on_the_same_clips_and_views(suite: Suite, tmp_path: Path) -> None:
    outcome = run_suite(suite, tmp_path, progress=False)
    assert outcome.failures == ()
    assert len(list(outcome.store)) == 2 * 3
    workspace = runner.Workspace(suite, tmp_path)
    training_ids: dict[str, list[Any]] = {}
    for study in studies_of(suite, Pair("ear", "tones")):
        job = workspace.job(study)
        if study.probe == "finetune":
            ids = [[clip.id for clip in job.training_set.clips(split)] for split in ("train", "validation")]  # type: ignore[attr-defined]
        else:
            ids = [list(job.training_bank.split(split).ids) for split in ("train", "validation")]
        training_ids.setdefault(study.probe, []).append(ids)
    assert training_ids["finetune"] == training_ids["linear"] == training_ids["knn"]
    assert any(name.endswith("~1") for name in training_ids["linear"][0][0])
    for record in outcome.store:
        assert record.protocol.views == Views(number=2, p=0.9, snr_db=(0.0, 5.0))
    assert prepare(suite, tmp_path).runs == ()
    fewer_views = dataclasses.replace(suite, datasets=(DatasetSpec("tones", shots=3, views=1),))
    assert len(prepare(fewer_views, tmp_path).runs) == 6


def test_each_clip_is_encoded_once_and_an_interrupted_extraction_is_continued(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed, encoded_ids = encoding.FrozenEncoder.embed, []

    def recording_embed(encoder: Any, clips: Any, *rest: Any) -> Any:
        encoded_ids.extend(clip.id for clip in clips)
        return embed(encoder, clips, *rest)

    monkeypatch.setattr(encoding.FrozenEncoder, "embed", recording_embed)
    suite = dataclasses.replace(suite, probes=suite.probes[:2])
    whole = run_suite(suite, tmp_path / "whole", progress=False)
    others = [name for name in encoded_ids if not name.startswith("train")]
    assert len(others) == 24 + 24 + 2 * 2  # the plan and the announced size encode one clip of each split
    calls = 0

    def interrupted_embed(*rest: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % 17 == 0:
            raise KeyboardInterrupt
        return embed(*rest)

    monkeypatch.setattr(encoding.FrozenEncoder, "embed", interrupted_embed)
    kills = 0
    while kills < 40:
        try:
            outcome = run_suite(suite, tmp_path / "killed", progress=False)
            break
        except KeyboardInterrupt:
            kills += 1
    assert kills > 1

    assert reproducible(outcome.store) == reproducible(whole.store)


def test_views_without_shots_are_refused(suite: Suite) -> None:
    with pytest.raises(SuiteError, match="give shots"):
        dataclasses.replace(suite, datasets=(DatasetSpec("tones", views=2),))
