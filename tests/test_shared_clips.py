"""Clips of the test split that other splits contain are refused, by id and by the content of their files."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from otoscope.datasets import Dataset
from otoscope.datasets.checks import DataError, checked_clips
from otoscope.datasets.doubts import doubts, warn_of_doubts
from otoscope.datasets.shared import equal_audio
from otoscope.types import Clip, Task
from otoscope.warning import OtoscopeWarning
from toys import run_toy

NAMES = {"train": ("a", "b", "c"), "validation": ("d", "e"), "test": ("f", "g")}


class Noises(Dataset):
    """Files of noise in a folder; `NAMES` are their names by split."""

    name, digest = "noises", "1"
    task = Task(("x", "y"), "multi-label", "mAP")

    def __init__(self, folder):
        self.folder = folder
        for number, name in enumerate("abcdefg"):
            wave = np.random.default_rng(number).normal(0, 0.1, 500 if name == "c" else 400)
            soundfile.write(folder / f"{name}.wav", wave, 1000)

    def clips(self, split):
        names = NAMES[split]
        return [Clip.from_file(self.folder / f"{name}.wav", ["xy"[i % 2]], split) for i, name in enumerate(names)]


def test_files_of_equal_content_are_found(tmp_path):
    dataset = Noises(tmp_path)
    assert len(checked_clips(dataset)) == 3
    shutil.copy(tmp_path / "b.wav", tmp_path / "g.wav")
    with pytest.raises(DataError, match=r"splits 'train' and 'test' have 1 clips with the same audio \('b.wav' ="):
        checked_clips(dataset)
    assert len(checked_clips(dataset, allow_shared=True)) == 3
    assert checked_clips(dataset, ["train", "validation"])


def test_train_and_validation_may_share_audio(tmp_path):
    dataset = Noises(tmp_path)
    shutil.copy(tmp_path / "b.wav", tmp_path / "d.wav")
    clips = checked_clips(dataset)
    [(splits, pairs)] = equal_audio(clips).items()
    assert (splits, [(a.id, b.id) for a, b in pairs]) == (("train", "validation"), [("b.wav", "d.wav")])


def test_equal_audio_with_different_labels_within_a_split_is_reported_by_name(tmp_path):
    dataset = Noises(tmp_path)
    dataset.task = Task(("x", "y"), "multi-class", "accuracy")
    shutil.copy(tmp_path / "f.wav", tmp_path / "g.wav")
    message = r"data set 'noises': clips with the same audio have different labels: 'f.wav' \['x'\] = 'g.wav' \['y'\]; "
    with pytest.warns(OtoscopeWarning, match=message) as caught:
        warn_of_doubts(dataset, checked_clips(dataset))
    assert len(caught) == 1
    shutil.copy(tmp_path / "a.wav", tmp_path / "e.wav")  # both have the label x
    assert len(doubts(dataset.task, checked_clips(dataset))) == 1
    dataset.task = Task(("x", "y"), "multi-label", "mAP")
    assert doubts(dataset.task, checked_clips(dataset)) == []


def test_only_files_of_equal_size_are_read(tmp_path, monkeypatch):
    dataset, read = Noises(tmp_path), []
    monkeypatch.setattr("otoscope.datasets.shared.bound_audio", lambda clip, _: read.append(clip.id))
    assert equal_audio({split: dataset.clips(split) for split in dataset.splits}) == {}
    assert "c.wav" not in read
    assert len(read) == 6


def test_a_missing_file_is_not_compared(tmp_path):
    dataset = Noises(tmp_path)
    (tmp_path / "a.wav").unlink()
    assert len(checked_clips(dataset)) == 3


PLUGIN = """
from dataclasses import replace
from otoscope import datasets
from toys import Tones

@datasets.register("leak")
class Leak(Tones):
    def clips(self, split):
        return [replace(clip, id=clip.id.replace("test", "train")) for clip in super().clips(split)]
"""


@pytest.mark.parametrize("command", [["extract"], ["probe", "--probe", "linear"]])
def test_the_command_line_refuses_shared_clips_unless_they_are_allowed(command, plugin_folder: Path, capsys):
    (plugin_folder / "leak.py").write_text(PLUGIN)
    arguments = [*command, "--plugin", "leak.py", "--dataset", "leak"]
    assert run_toy(*arguments) == 2
    assert "split 'test' shares 24 clips ('train-0'" in capsys.readouterr().err
    assert run_toy(*arguments, "--allow-shared") == 0
