"""Kinds of banks: tokens rounded to int8, and pooled vectors."""

import pytest
import torch

from helpers_banks import VARIED, Sounds, Toy, every_kind, extract_quietly
from otoscope import bank as banks
from otoscope.bank._shard import layout_bytes
from otoscope.bank.read import open_held_out
from otoscope.ops import quantise
from otoscope.sampling import with_few_shot, with_validation
from otoscope.train import TrainingConfig, fit, fit_many
from otoscope.types import Tokens, TokenShape
from toys import Ear, Tones

ROUNDING = {"float32": 1e-6, "float16": 2**-11, "bfloat16": 2**-8, "int8": 1 / 254}
"""Largest error of a stored value, as a share of the largest value of its token."""


def split_of(path, *, has_cls=True, lengths=VARIED, **kind):
    return extract_quietly(Toy(has_cls=has_cls), Sounds(lengths=lengths), path, layers="all", **kind).split("train")


# int8


@pytest.mark.parametrize("lengths", [(60,), VARIED])
@pytest.mark.parametrize("has_cls", [True, False])
def test_int8_tokens_are_those_of_quantise(tmp_path, lengths, has_cls):
    exact = split_of(tmp_path / "a", lengths=lengths, has_cls=has_cls, dtype="float32").tokens(range(7))
    train = split_of(tmp_path / "b", lengths=lengths, has_cls=has_cls, dtype="int8")
    levels, tokens = quantise(exact.x), train.tokens(range(7))
    valid = exact.mask[:, None, :, None].expand(levels.scale.shape)
    assert tokens.x.dtype == torch.float32
    assert torch.equal(tokens.x[valid], levels.float()[valid])
    assert not tokens.x[~valid].any()
    assert torch.equal(tokens.mask, exact.mask)
    assert ((tokens.x - exact.x).abs() <= levels.scale[..., None] * 0.501).all()
    values, scale, mask = train.quantised([6, 0, 3, -4])
    rows = [6, 0, 3, 3]
    assert (values.dtype, scale.dtype, mask.dtype) == (torch.int8, torch.float32, torch.bool)
    assert torch.equal(mask, exact.mask[rows])
    assert torch.equal(values[valid[rows]], levels.values[rows][valid[rows]])
    assert torch.equal(scale, levels.scale[rows].masked_fill(~valid[rows], 0))
    if has_cls:
        assert torch.equal(tokens.cls, exact.cls.half().float())


def test_int8_needs_half_the_bytes_of_float16():
    scale_and_mask = 4 / 768 + 1 / (8 * 768)
    sizes = {}
    for dtype in ("float16", "int8"):
        identity = banks.BankIdentity.of(Wide(), Sounds(), dtype=dtype)
        sizes[dtype] = layout_bytes(10, 64, identity)
    assert sizes["int8"] / sizes["float16"] == pytest.approx(0.5 * (1 + scale_and_mask), rel=2e-3)


class Wide(Toy):
    def __init__(self):
        super().__init__()
        self.shape = TokenShape(layers=3, freq=8, dim=768, has_cls=True, frame_rate=10)


def test_int8_rows_of_another_bank_are_refused(tmp_path):
    with pytest.raises(banks.BankError, match=r"int8 rows of split 'train'.*stores float16: .*dtype='int8'"):
        split_of(tmp_path / "b").quantised([0])


def test_a_token_of_zeros_is_stored_as_zeros(tmp_path):
    class WithZeros(Toy):
        def embed(self, features):
            tokens = super().embed(features)
            tokens.x[:, :, 1] = 0
            return tokens

    train = extract_quietly(WithZeros(), Sounds(), tmp_path / "b", dtype="int8").split("train")
    assert not train.tokens(range(7)).x[:, :, 1].any()
    assert train.tokens(range(7)).x[:, :, 0].any()


# Pooled


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("has_cls", [True, False])
def test_pooled_vectors_are_the_means_of_the_tokens_up_to_rounding(tmp_path, dtype, has_cls):
    exact = split_of(tmp_path / "a", has_cls=has_cls, dtype="float32").pooled()
    whole = split_of(tmp_path / "b", has_cls=has_cls, dtype=dtype)
    pooled = split_of(tmp_path / "c", has_cls=has_cls, dtype=dtype, content="pooled")
    assert (pooled.content, pooled.steps, pooled.shape) == ("pooled", 1, whole.shape)
    assert pooled.pooled().x.shape == (7, 3, 1, 1, 4)
    assert pooled.pooled() is pooled.pooled()
    largest = exact.x.abs().amax(-1, keepdim=True)
    assert ((pooled.pooled().x - exact.x).abs() <= ROUNDING[dtype] * largest * 1.01).all()  # cast once, at the end
    token = whole.tokens(range(7)).x.abs().amax() if dtype != "float32" else largest
    assert ((whole.pooled().x - pooled.pooled().x).abs() <= 2 * ROUNDING[dtype] * token).all()
    if has_cls:
        assert torch.equal(pooled.pooled().cls, whole.pooled().cls)


class Coarse(Toy):
    """Tokens in bfloat16: alternately 1 and the next larger number, whose mean bfloat16 cannot represent."""

    def embed(self, features):
        tokens = super().embed(features)
        x = torch.ones_like(tokens.x)
        x[:, :, ::2] += 2**-7
        return Tokens(x.bfloat16(), tokens.mask, tokens.cls.bfloat16())


def test_means_are_computed_before_they_are_cast(tmp_path):
    train = extract_quietly(Coarse(), Sounds(), tmp_path / "b", content="pooled", dtype="float32").split("train")
    assert torch.equal(train.pooled().x, torch.full((7, 1, 1, 1, 4), 1 + 2**-8))


def test_a_pooled_bank_has_no_token_maps(tmp_path):
    bank = extract_quietly(Toy(), Sounds(lengths=VARIED), tmp_path / "b", content="pooled")
    subset = bank.with_splits({"train": bank.split("train").subset([5, 1, 3])})
    for split in (bank.split("train"), open_held_out(bank), subset.split("train")):
        with pytest.raises(banks.BankError, match=r"but its bank stores pooled.*Use pooled\(\).*content='tokens'"):
            split.tokens([0])
    assert torch.equal(subset.split("train").pooled().x, bank.split("train").pooled().x[[5, 1, 3]])


@every_kind
def test_a_subset_reads_the_rows_of_its_split(tmp_path, kind):
    whole = split_of(tmp_path / "b", **kind)
    subset = whole.subset([5, 0, 6])
    assert torch.equal(subset.pooled().x, whole.pooled().x[[5, 0, 6]])
    if kind.get("dtype") == "int8":
        assert torch.equal(subset.quantised([-1])[1], whole.quantised([6])[1])
    if whole.content == "tokens":
        assert torch.equal(subset.tokens(slice(None, None, -1)).x, whole.tokens([6, 0, 5]).x)
        with pytest.raises(IndexError, match=r"rows \[3\] of split 'train', which has 3 clips"):
            subset.tokens([3])


@pytest.mark.parametrize("lengths", [(60,), VARIED])
@pytest.mark.parametrize("dtype", ROUNDING)
def test_selected_layers_are_those_of_all_layers(tmp_path, dtype, lengths):
    whole = split_of(tmp_path / "b", dtype=dtype, lengths=lengths)
    subset = whole.subset([5, 0, 6])
    for layers in ([2], [0, 1], [1, 2], [2, 0], [-1, -3], [0, 1, 2], [1, 1]):
        for split, rows in ((whole, [6, 0, 1, 2, 0]), (subset, [2, 0])):
            tokens, expected = split.tokens(rows, layers), split.tokens(rows).select_layers(layers)
            assert torch.equal(tokens.x, expected.x)
            assert torch.equal(tokens.mask, expected.mask)
            assert torch.equal(tokens.cls, expected.cls)
    with pytest.raises(IndexError):
        whole.tokens([0], [3])


def test_a_bank_with_another_content_is_refused(tmp_path):
    extract_quietly(Toy(), Sounds(), tmp_path / "b", content="pooled")
    with pytest.raises(banks.MismatchError, match=r"content: requested 'tokens', stored 'pooled'\n"):
        extract_quietly(Toy(), Sounds(), tmp_path / "b")


# Training on banks of each kind


@pytest.fixture(scope="module")
def banks_by_kind(tmp_path_factory):
    def bank(content, dtype):
        folder = tmp_path_factory.mktemp("b") / "b"
        return banks.extract(Ear(), Tones(), folder, content=content, dtype=dtype, layers="all", progress=False)

    return {(content, dtype): bank(content, dtype) for content in ("tokens", "pooled") for dtype in ("float32", "int8")}


@pytest.mark.parametrize("probe", ["linear", "mean", "wsum", "knn"])
def test_a_probe_that_reads_means_gives_the_same_logits_with_tokens_and_with_pooled_vectors(banks_by_kind, probe):
    whole, pooled = (banks_by_kind[content, "float32"] for content in ("tokens", "pooled"))
    options = {"solver": "adamw"} if probe in ("linear", "mean") else {}
    a, b = (fit(probe, bank, TrainingConfig(epochs=3), options=options) for bank in (whole, pooled))
    logits = a.predict_logits(whole.split("validation"))
    torch.testing.assert_close(b.predict_logits(pooled.split("validation")), logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(a.predict_logits(pooled.split("validation")), logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_probe_that_reads_token_maps_is_refused_before_any_training(banks_by_kind, monkeypatch, dtype):
    pooled = banks_by_kind["pooled", dtype]
    monkeypatch.setattr(torch.optim, "AdamW", None)
    message = "token maps of split 'train' were requested, but its bank stores pooled"
    for bank in (pooled, with_few_shot(with_validation(pooled), 2)):
        with pytest.raises(banks.BankError, match=message):
            fit("protobin", bank, TrainingConfig(epochs=1))
        with pytest.raises(banks.BankError, match=message):
            fit_many("protobin", bank, [TrainingConfig(seed=seed, epochs=1) for seed in (0, 1)])


def test_a_probe_that_reads_token_maps_can_be_trained_on_int8(banks_by_kind):
    fitted = fit("protobin", banks_by_kind["tokens", "int8"], TrainingConfig(epochs=3))
    assert torch.isfinite(fitted.predict_logits(banks_by_kind["tokens", "int8"].split("validation"))).all()
