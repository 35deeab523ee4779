"""Clips, tokens and data sets that cannot be stored are refused."""

import numpy as np
import pytest
import torch

from helpers_banks import Sounds, Toy, every_kind, extract_quietly, subclass_with
from otoscope import bank as banks
from otoscope.audio.decode import AudioError
from otoscope.types import Clip, Tokens


class Loud(Toy):
    """Multiplies the tokens of clips whose first sample is above a threshold by a factor."""

    name = "toy"

    def __init__(self, factor, part="x"):
        super().__init__()
        self.factor, self.part = factor, part

    def embed(self, features):
        tokens = super().embed(features)
        loud = torch.where(features.x[:, 0, 0] > 50, self.factor, 1.0)
        x = tokens.x * loud[:, None, None, None, None] if self.part == "x" else tokens.x
        return Tokens(x, tokens.mask, tokens.cls * loud[:, None, None] if self.part == "cls" else tokens.cls)


class OneLoud(Sounds):
    def wave(self, id, length):
        wave = super().wave(id, length)
        if id == "validation-1":
            wave[0] = 100
        return wave


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (torch.nan, "encoder returned a {} that is NaN or infinite"),
        (torch.inf, "encoder returned a {} that is NaN or infinite"),
        (1e6, r"a {} value of .*e\+0\d overflows torch.float16; extract with dtype='bfloat16'"),
    ],
)
@pytest.mark.parametrize(("part", "title"), [("x", "token"), ("cls", "cls")])
@every_kind
def test_tokens_that_are_not_finite_or_overflow_are_refused(tmp_path, factor, message, part, title, kind):
    if (factor, part, kind.get("dtype")) == (1e6, "x", "int8"):
        pytest.skip("a float32 scale stores it")
    expected = "clip 'validation-1' of split 'validation': .*" + message.format(title)
    with pytest.raises(banks.BankError, match=expected):
        extract_quietly(Loud(factor, part), OneLoud(), tmp_path / "b", **kind)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "int8"])
def test_wider_dtypes_store_values_that_overflow_float16(tmp_path, dtype):
    bank = extract_quietly(Loud(1e6), OneLoud(), tmp_path / "b", dtype=dtype)
    assert bank.split("validation").tokens([1]).x.abs().max() > 1e5


class WrongShape(Toy):
    name = "toy"

    def __init__(self, change):
        super().__init__()
        self.change = change

    def embed(self, features):
        return self.change(super().embed(features))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.select_layers([0, 1]), r"layers=3.*returned x \[B, L, T, F, D\] = \[1, 2, 6, 2, 4\]"),
        (lambda t: Tokens(t.x[..., :1, :], t.mask, t.cls), "freq=2"),
        (lambda t: Tokens(t.x[..., :3], t.mask), "dim=4"),
        (lambda t: Tokens(t.x[:0], t.mask[:0]), "for 1 clips"),
        (lambda t: Tokens(t.x, t.mask), "has_cls=True, but it returned no cls token"),
    ],
)
def test_an_encoder_with_another_shape_than_declared_is_refused_before_anything_is_written(tmp_path, change, message):
    with pytest.raises(banks.BankError, match=message):
        extract_quietly(WrongShape(change), Sounds(), tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (np.array([0, np.nan], np.float32), "has NaN or infinite samples"),
        (np.zeros(0, np.float32), "is empty"),
        (np.zeros(60), "is float64"),
        (np.zeros((60, 2), np.float32), r"is float32 \[60, 2\]"),
    ],
)
def test_audio_that_cannot_be_used_is_named(tmp_path, wave, message):
    broken = subclass_with(Sounds, wave=lambda self, id, n: wave if id == "train-3" else Sounds.wave(self, id, n))
    with pytest.raises(AudioError, match=f"clip 'train-3' of split 'train': its audio {message}"):
        extract_quietly(Toy(), broken(), tmp_path / "b")


def test_an_error_while_loading_names_the_clip(tmp_path):
    def unplugged(*_):
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone") as caught:
        extract_quietly(Toy(), subclass_with(Sounds, wave=unplugged)(), tmp_path / "b")
    assert caught.value.__notes__ == ["in split 'train', clips train-0"]


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        (lambda data, split: [data.clip(split, 1), data.clip(split, 1)], "clip id 'train-1' occurs twice"),
        (lambda *_: [], "split 'train' has no clips"),
        (
            lambda *_: [Clip("a", lambda: None, 1, ("cow",), (), "train")],
            r"label 'cow' of 1 clip \('a'\) is not one of",
        ),
    ],
)
def test_an_inconsistent_data_set_is_refused(tmp_path, clips, message):
    with pytest.raises(ValueError, match=message):
        extract_quietly(Toy(), subclass_with(Sounds, clips=clips)(), tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_digest_that_does_not_cover_the_labels_is_detected(tmp_path):
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "b")
    (bank.path / "test" / "shard-00000.safetensors").unlink()
    changed = subclass_with(Sounds, clips=lambda self, split: Sounds.clips(self, split)[::-1])
    with pytest.raises(
        banks.BankError, match=r"train.clips\.json and the data set list different clips.*Correct the digest"
    ):
        extract_quietly(Toy(), changed(), bank.path)
