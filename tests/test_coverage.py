"""Results on named data sets: how many of the published clips they have, and whether an encoder knows the audio."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from helpers_records import LabelledClips, add_trainings
from helpers_small_encoder import Small
from otoscope import encoders
from otoscope.report.compare import compare
from otoscope.report.coverage import published_clips
from otoscope.report.pretraining import known_audio
from otoscope.report.rows import summarise
from otoscope.report.text.summary import summary_text
from otoscope.results import Store


def _store(tmp_path: Path, encoder: str, dataset: str, clips: int = 150, name: str = "") -> Store:
    store = Store(tmp_path / "results")
    labelled = LabelledClips.random(dataset, clips)
    add_trainings(store, labelled, encoder, {"linear": 1.0, "mean": 1.2}, noise_seed=1, encoder_name=name)
    return store


@pytest.fixture
def pretrained(isolated_registries: None) -> None:  # noqa: ARG001
    """The encoder `means`, which was pretrained on AudioSet and Freesound."""
    card = replace(Small.card, pretrained_on=("AudioSet", "Freesound"))
    encoders.register("means")(type("Means", (Small,), {"card": card}))


def test_a_result_on_a_partial_copy_says_how_many_of_the_published_clips_it_has(tmp_path: Path) -> None:
    store = _store(tmp_path, "tiny", "as20k")
    assert "over 150 of 20,371 published held-out clips" in summary_text(summarise(store, resamples=20))
    assert "the same 150 of 20,371 published held-out clips" in compare(store, "linear", "mean", resamples=100).text()


def test_a_complete_copy_and_other_data_sets_have_the_plain_number(tmp_path: Path) -> None:
    assert "over 150 held-out clips" in summary_text(summarise(_store(tmp_path, "tiny", "garden"), resamples=20))
    assert published_clips("gtzan") == 290
    complete = _store(tmp_path / "complete", "tiny", "gtzan", 290)
    assert "over 290 held-out clips" in summary_text(summarise(complete, resamples=20))


@pytest.mark.usefixtures("pretrained")
def test_an_encoder_that_knows_the_audio_from_its_pretraining_is_marked(tmp_path: Path) -> None:
    store = _store(tmp_path, "M+", "as20k", name="means")
    sentence = "M+ on as20k: the encoder was pretrained on AudioSet, which contains clips of this data set"
    assert sentence in summary_text(summarise(store, resamples=20))
    by_label = summary_text(summarise(_store(tmp_path / "by label", "means", "as20k"), resamples=20))
    assert "means on as20k: the encoder was pretrained on AudioSet" in by_label
    other = summary_text(summarise(_store(tmp_path / "other", "tiny", "as20k"), resamples=20))
    assert "pretrained" not in other


@pytest.mark.usefixtures("pretrained")
def test_only_common_corpora_count() -> None:
    assert known_audio("means", "esc50") == ("Freesound",)
    assert known_audio("means", "gtzan") == ()
    assert known_audio("nowhere", "as20k") == ()
    assert known_audio("tiny", "as2m") == ()
