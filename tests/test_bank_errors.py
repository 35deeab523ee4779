"""Clips, tokens and data sets that cannot be stored are refused."""

import numpy as np
import pytest
import torch

from helpers_banks import Sounds, Toy, every_kind, extract_quietly, subclass_with
from otoscope import bank as banks
from otoscope.audio.decode import AudioError
from otoscope.encoders import Features
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


@pytest.mark.parametrize(("part", "title"), [("x", "token"), ("cls", "cls")])
@every_kind
def test_tokens_that_underflow_are_refused(tmp_path, part, title, kind):
    if (part, kind.get("dtype")) == ("x", "int8"):
        pytest.skip("a float32 scale stores it")
    expected = (
        rf"clip 'validation-1' of split 'validation': the largest {title} value of layer 2 is .*e-\d+ and underflows "
        r"torch.float16, whose smallest normal value is 6.1e-05; extract with dtype='bfloat16' or 'float32'"
    )
    with pytest.raises(banks.BankError, match=expected):
        extract_quietly(Loud(1e-9, part), OneLoud(), tmp_path / "b", **kind)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "int8"])
def test_wider_dtypes_store_values_that_underflow_float16(tmp_path, dtype):
    bank = extract_quietly(Loud(1e-9), OneLoud(), tmp_path / "b", dtype=dtype)
    assert 0 < bank.split("validation").tokens([1]).x.abs().max() < 1e-8
    assert bank.underflowed == {"train": 0, "validation": 0, "test": 0}


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "int8"])
def test_values_that_no_dtype_can_store_are_refused(tmp_path, dtype):
    with pytest.raises(banks.BankError, match=r"underflows torch.*no dtype of a bank can store it; scale the tokens"):
        extract_quietly(Loud(1e-39), OneLoud(), tmp_path / "b", dtype=dtype)


def test_one_small_layer_is_enough_to_be_refused(tmp_path):
    class SmallFirst(Toy):
        def embed(self, features):
            tokens = super().embed(features)
            return Tokens(tokens.x * torch.tensor([1e-9, 1, 1]).view(-1, 1, 1, 1), tokens.mask, tokens.cls)

    with pytest.raises(banks.BankError, match="largest token value of layer 0 is"):
        extract_quietly(SmallFirst(), Sounds(), tmp_path / "b", layers="all")
    extract_quietly(SmallFirst(), Sounds(), tmp_path / "last")


@every_kind
def test_zeros_do_not_underflow(tmp_path, kind):
    bank = extract_quietly(Loud(0.0), OneLoud(), tmp_path / "b", **kind)
    assert bank.underflowed == {"train": 0, "validation": 0, "test": 0}


class OneSmallToken(Toy):
    """Multiplies the second token of each clip by a small number."""

    def embed(self, features):
        tokens = super().embed(features)
        tokens.x[:, :, 1] *= 1e-9
        return tokens


def test_tokens_that_become_zero_are_counted(tmp_path):
    with pytest.warns(UserWarning, match=r"28 tokens of the bank .* rounded to zeros in float16; extract with dtype="):
        bank = extract_quietly(OneSmallToken(), Sounds(), tmp_path / "b")  # 14 clips, two rows of frequency
    assert bank.underflowed == banks.open(bank.path).underflowed == {"train": 14, "validation": 6, "test": 8}
    assert not extract_quietly(OneSmallToken(), Sounds(), tmp_path / "c", dtype="bfloat16").underflowed["train"]


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


# The first clips are encoded twice


class Unstable(Toy):
    """Adds the result of a function to the tokens of each batch."""

    def __init__(self, change):
        super().__init__()
        self.change, self.state = change, 0

    def embed(self, features):
        tokens, self.state = super().embed(features), self.state + 1
        return Tokens(tokens.x + self.change(tokens.x, self.state), tokens.mask, tokens.cls)


def seeded_noise(x, _):
    return 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "change",
    [lambda x, _: 0.01 * torch.randn(x.shape), lambda _, calls: 0.001 * calls, seeded_noise],
    ids=["random", "state", "position in the batch"],
)
def test_an_encoder_that_gives_other_tokens_again_is_refused_before_anything_is_written(tmp_path, change):
    with pytest.raises(banks.BankError, match=r"encoder 'toy' gives other tokens when it encodes clip 'train-[01]' of"):
        extract_quietly(Unstable(change), Sounds(), tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_rounding_is_accepted_when_clips_are_encoded_again(tmp_path):
    extract_quietly(Unstable(lambda x, _: 1e-6 * torch.randn(x.shape)), Sounds(), tmp_path / "b")


def test_an_encoder_with_another_number_of_tokens_in_the_second_call_is_refused(tmp_path):
    class Shrinking(Toy):
        computed = 0

        def front_end(self, batch):
            features = super().front_end(batch)
            self.computed += 1  # three clips for the size, two clips twice
            return Features(features.x, features.lengths - int(self.computed > 5))

    with pytest.raises(banks.BankError, match="a value differs by inf"):
        extract_quietly(Shrinking(), Sounds(), tmp_path / "b")
