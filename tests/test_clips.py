"""Clips: what is refused when one is created, and clips of audio files."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from otoscope.audio.decode import AudioError
from otoscope.types import Clip, Event

CLIP = Clip("one", lambda: np.zeros(4, np.float32), 1000, ("low",), (Event(0, 1, "low"),), "train", ("speaker-7",))


@pytest.mark.parametrize("field", ["labels", "groups"])
@pytest.mark.parametrize("value", ["speaker", ["speaker"], ("a", "a"), ("",), (7,)])
def test_labels_and_groups_are_distinct_texts(field, value):
    with pytest.raises(ValueError, match=rf"clip 'one': {field} must be a tuple of distinct texts.*is written \(\""):
        replace(CLIP, **{field: value})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": ""}, "the id of a clip must be a text that is not empty, found ''"),
        ({"id": 7}, "the id of a clip must be a text that is not empty, found 7"),
        ({"rate": 0}, "clip 'one': the rate must be a whole number of Hz above 0, found 0"),
        ({"rate": 1000.5}, "found 1000.5"),
        ({"rate": "48k"}, "found '48k'"),
        ({"events": [Event(0, 1, "low")]}, "events must be a tuple of Event"),
        ({"events": ((0, 1, "low"),)}, "events must be a tuple of Event"),
    ],
)
def test_values_of_other_types_are_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        replace(CLIP, **change)


def test_a_clip_of_a_file_has_the_rate_of_the_file(tmp_path):
    file = tmp_path / "my bird.wav"
    soundfile.write(file, np.full((4800, 2), 0.25), 48000)
    clip = Clip.from_file(str(file), ["low"], "train", events=[Event(0, 0.1, "low")], groups=["site"])
    assert (clip.id, clip.path, clip.rate, clip.labels, clip.groups) == (
        "my bird.wav",
        file,
        48000,
        ("low",),
        ("site",),
    )
    assert clip.audio.tolist() == [0.25] * 4800
    assert replace(clip, id="a").rate == pickle.loads(pickle.dumps(clip)).rate == 48000


def test_a_file_is_read_when_the_rate_or_the_audio_is_needed(tmp_path):
    clip = Clip.from_file(tmp_path / "gone.wav", ["low"], "train", id="a")
    for name in ("rate", "audio"):
        with pytest.raises(FileNotFoundError, match=r"no audio file at .*gone\.wav"):
            getattr(clip, name)
    clip.path.write_text("text")
    with pytest.raises(AudioError, match="it is not audio, but text"):
        _ = clip.rate


def test_one_label_that_is_given_as_text_is_refused():
    with pytest.raises(ValueError, match=r"labels must be a tuple of distinct texts that are not empty, found 'bc'"):
        Clip.from_file("a.wav", "bc", "train")
