"""The conversion of a clip to a waveform, which all callers share."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

import otoscope as oto
from otoscope.audio.decode import AudioError, decode
from otoscope.bench import activation
from otoscope.datasets.waveform import waveform
from otoscope.finetuning.features import extract_features
from otoscope.sampling import add_mixup_views
from otoscope.train import TrainingConfig, fit
from otoscope.types import Clip
from toys import Ear, Tones

BROKEN = [
    (np.array([0, np.nan], np.float32), "has NaN or infinite samples"),
    (np.array([np.inf], np.float32), "has NaN or infinite samples"),
    (np.zeros(0, np.float32), "is empty"),
    (np.zeros(60), r"is float64 \[60\], not mono float32 \[S\]"),
    (np.zeros((60, 2), np.float32), r"is float32 \[60, 2\], not mono float32 \[S\]"),
]


def clip_of(wave, rate=1000, name="broken"):
    return Clip(name, lambda: wave, rate, ("low",), (), "train")


def test_a_clip_is_resampled():
    assert waveform(clip_of(np.zeros(44100, np.float32), 44100), 16000).shape == (16000,)


def test_a_rate_other_than_that_of_the_decoded_file_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(4800), 48000)
    clip = Clip("a", lambda: decode(tmp_path / "a.wav")[0], 16000, ("low",), (), "train")
    with pytest.raises(
        AudioError, match=r"'a' of split 'train' declares 16000 Hz, but .*a\.wav has 48000 Hz; use Clip"
    ):
        waveform(clip, 16000)
    resampled = replace(clip, load=lambda: decode(tmp_path / "a.wav")[0][::3])
    assert len(waveform(resampled, 16000)) == 1600


def test_a_clip_at_the_requested_rate_is_returned_as_it_is():
    wave = np.ones(10, np.float32)
    assert waveform(clip_of(wave), 1000) is wave


def test_an_error_while_loading_names_clip_and_split():
    def fail():
        raise OSError("no such device")

    with pytest.raises(OSError, match="no such device") as caught:
        waveform(Clip("a", fail, 1000, (), (), "train"), 1000)
    assert caught.value.__notes__ == ["in split 'train', clips a"]


def test_too_few_samples_to_resample_name_clip_and_split():
    with pytest.raises(ValueError, match="less than one") as caught:
        waveform(clip_of(np.zeros(1, np.float32), 48000), 8000)
    assert caught.value.__notes__ == ["in split 'train', clips broken"]


class OneBroken(Tones):
    """The data set with one clip whose audio cannot be used."""

    def __init__(self, wave):
        super().__init__()
        self.broken = clip_of(wave)

    def clips(self, split):
        return [*super().clips(split), *[self.broken] * (split == "train")]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    bank = oto.bank.extract(Ear(), Tones(), tmp_path_factory.mktemp("bank") / "b", progress=False)
    return fit("protobin", bank, TrainingConfig(epochs=1)), bank.split("validation")


@pytest.mark.parametrize(("wave", "message"), BROKEN)
def test_every_path_refuses_a_clip_with_the_same_message(tmp_path, fitted, wave, message):
    clip = clip_of(wave)
    sound = clip_of(np.ones(1000, np.float32), name="sound")
    probe, split = fitted

    def mix():
        return [view.audio for view in add_mixup_views([sound, clip], Tones().task, views=1, p=1.0)[2:]]

    paths = [
        lambda: waveform(clip, 1000),
        lambda: oto.bank.extract(Ear(), OneBroken(wave), tmp_path / "b", progress=False),
        lambda: extract_features(Ear(), [clip]),
        lambda: activation.map_activation(probe, split, Ear(), dict.fromkeys(split.ids, clip), "ear"),
        mix,
    ]
    messages = set()
    for path in paths:
        with pytest.raises(AudioError, match=f"^clip 'broken' of split 'train': its audio {message}; ") as caught:
            path()
        messages.add(str(caught.value))
    assert len(messages) == 1


@pytest.mark.parametrize("rate", [1000, 500])
def test_the_file_of_a_clip_is_opened_once_for_its_samples_and_its_rate(tmp_path, monkeypatch, rate):
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 1000)
    opened = []
    real = soundfile.SoundFile
    monkeypatch.setattr(soundfile, "SoundFile", lambda file: opened.append(file) or real(file))
    assert len(waveform(Clip.from_file(tmp_path / "a.wav", ["low"], "train"), rate)) == rate // 10
    assert len(opened) == 1
