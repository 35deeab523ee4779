"""Results of different copies of a data set, compared on their common clips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers_records import LabelledClips, add_trainings
from otoscope import metrics
from otoscope.cli import main
from otoscope.report.common_clips import restrict_to_common_clips
from otoscope.results import Predictions, Store


def _copies(tmp_path: Path) -> Store:
    """The probe `linear` on 150 clips, and `mean` on the last 120 of them and 10 others, in another order."""
    store, other = Store(tmp_path / "results"), Store(tmp_path / "other")
    clips = LabelledClips.random("as20k", 160)
    add_trainings(other, clips, "tiny", {"linear": 1.0, "mean": 3.0}, seeds=1)
    for record in other:
        rows = np.arange(150) if record.probe == "linear" else np.arange(159, 29, -1)
        whole = other.predictions(record)
        assert whole is not None
        part = Predictions(
            tuple(whole.ids[row] for row in rows), whole.scores[rows], whole.targets[rows], whole.classes
        )
        protocol = replace(record.protocol, dataset_digest=f"copy for {record.probe}")
        store.add(replace(record, protocol=protocol), part)
    return store


def test_results_are_evaluated_on_the_clips_that_all_of_them_have(tmp_path: Path) -> None:
    store = _copies(tmp_path)
    restricted, sentences = restrict_to_common_clips(store, tmp_path / "common")
    assert sentences == [
        "as20k: evaluated on the 120 held-out clips that all results have; single results have 130 to 150"
    ]
    ids = set()
    for record in restricted:
        predictions = restricted.predictions(record)
        assert predictions is not None
        ids.add(predictions.ids)
        values = metrics.evaluate(predictions.scores, predictions.targets, "multi-label")
        assert record.value == values["mAP"] == record.metrics["mAP"]
    assert ids == {tuple(f"as20k/{row:04d}" for row in range(30, 150))}
    assert len({record.protocol.dataset_digest for record in restricted}) == 1
    assert [len(p.ids) for record in store if (p := store.predictions(record))] == [150, 130]


def test_equal_clips_are_left_as_they_are(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    add_trainings(store, LabelledClips.random("a"), "tiny", {"linear": 1.0, "mean": 2.0})
    restricted, sentences = restrict_to_common_clips(store, tmp_path / "common")
    assert sentences == []
    assert list(restricted) == list(store)


def test_copies_without_a_common_clip_are_refused(tmp_path: Path) -> None:
    store = _copies(tmp_path)
    record = next(record for record in store if record.probe == "mean")
    predictions = store.predictions(record)
    assert predictions is not None
    store.remove(record)
    store.add(record, replace(predictions, ids=tuple(f"other {id}" for id in predictions.ids)))
    with pytest.raises(ValueError, match="as20k: the results have no held-out clip in common"):
        restrict_to_common_clips(store, tmp_path / "common")


@pytest.mark.parametrize("selected", [True, False])
def test_compare_uses_common_clips_on_request(
    selected: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _copies(tmp_path)
    command = ["compare", "linear", "mean", "--out", str(tmp_path), "--resamples", "100"]
    assert main(command) == 2
    assert "cannot be compared" in capsys.readouterr().err
    status = main([*command, "--common-clips", "--dataset", "as20k" if selected else "none"])
    text = capsys.readouterr()
    assert status == (0 if selected else 2)
    if selected:
        assert "mean beats linear" in text.out
        assert "the same 120 of 20,371 published held-out clips" in text.out
        assert "evaluated on the 120 held-out clips" in text.err
