"""Low-rank updates: no change at the start, training of the updates alone, merging."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from otoscope import encoders, metrics, probes
from otoscope.encoders import Encoder, Features
from otoscope.finetuning import Recipe, finetune, lora
from otoscope.finetuning.learning_rates import depth_groups, parameter_groups
from otoscope.types import AudioBatch, Tokens, TokenShape
from toys import Ear, Tones

SMALL = {"train": 16, "validation": 12, "test": 4}
QUICK = Recipe(epochs=3, batch_size=8, lr=0.02, time_mask=4, freq_mask=4, lora_rank=3)


def adapted(encoder: Encoder, rank: int = 3, alpha: float | None = None) -> tuple[Encoder, lora.Depths]:
    copied = copy.deepcopy(encoder)
    return copied, lora.adapt(copied, depth_groups(copied), rank=rank, alpha=alpha)


def tokens_of(encoder: Encoder, waves: torch.Tensor) -> torch.Tensor:
    return encoder.encode(AudioBatch(waves, torch.full((len(waves),), waves.shape[1]), encoder.sample_rate)).x


def test_a_new_update_does_not_change_the_tokens() -> None:
    tiny = encoders.create("tiny", weights="random")
    waves = 0.1 * torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    copied, _ = adapted(tiny, rank=8)
    assert torch.equal(tokens_of(copied, waves), tokens_of(tiny, waves))


def test_every_linear_layer_of_every_block_is_adapted_and_nothing_else_is_trained() -> None:
    copied, depths = adapted(encoders.create("tiny", weights="random"), rank=8)
    assert [len(group) for group in depths] == [0] + [2 * 4] * 6  # qkv, out, up, down; not the patch embedding
    trained = [p for p in copied.parameters() if p.requires_grad]
    assert {id(p) for p in trained} == {id(p) for group in depths for p in group}
    dim = 192
    each = (dim + 3 * dim) + (dim + dim) + (dim + 4 * dim) + (4 * dim + dim)
    assert sum(p.numel() for p in trained) == 6 * 8 * each


def test_an_update_has_the_learning_rate_of_the_depth_of_its_layer() -> None:
    copied, depths = adapted(encoders.create("tiny", weights="random"), rank=2)
    head = probes.create("linear", copied.shape, 3)
    groups = parameter_groups(head, depths, lr=1.0, layer_decay=0.5, weight_decay=0.1)
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    for block, exponent in ((0, 6), (5, 1)):
        update = copied.vit.blocks[block].qkv.parametrizations.weight[0]
        assert rate[id(update.down)] == rate[id(update.up)] == 0.5**exponent
    assert rate[id(next(head.parameters()))] == 1.0


def test_the_scale_is_alpha_over_rank() -> None:
    for alpha, scale in ((None, 1.0), (6.0, 2.0)):
        copied, ((), (down, up)) = adapted(Ear(), rank=3, alpha=alpha)
        nn.init.ones_(up)
        change = copied.mix.weight - copied.mix.parametrizations.weight.original
        assert torch.allclose(change, scale * up @ down, atol=1e-6)


@pytest.mark.parametrize("name", ["ear", "tiny"])
def test_merged_weights_give_the_same_tokens_and_have_their_original_names(name: str) -> None:
    first = Ear() if name == "ear" else encoders.create("tiny", weights="random")
    copied, depths = adapted(first)
    for parameter in (p for group in depths for p in group):
        nn.init.normal_(parameter, std=0.1)
    waves = 0.1 * torch.randn(2, first.sample_rate, generator=torch.Generator().manual_seed(0))
    before = tokens_of(copied, waves)
    assert not torch.equal(before, tokens_of(first, waves))
    assert lora.merge(copied) is copied
    assert torch.equal(tokens_of(copied, waves), before)
    assert copied.state_dict().keys() == first.state_dict().keys()
    digest = copied.digest
    assert lora.merge(copied).digest == digest != first.digest


class AttentionEncoder(Encoder):
    """An encoder with nn.MultiheadAttention, which reads a weight without calling its layer."""

    name, sample_rate, front_end_id = "attends", 1000, "raw-12"
    shape = TokenShape(layers=1, freq=1, dim=12, has_cls=False, frame_rate=10)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 12)
        self.attention, self.norm = nn.MultiheadAttention(12, 2, batch_first=True), nn.BatchNorm1d(12)

    def front_end(self, batch: AudioBatch) -> Features:
        return Features(batch.waves.unfold(1, 12, 100), batch.lengths // 100)

    def embed(self, features: Features) -> Tokens:
        x = self.norm(self.first(features.x).transpose(1, 2)).transpose(1, 2)
        return Tokens(self.attention(x, x, x, need_weights=False)[0][:, None, :, None])

    def depth_groups(self) -> list[list[nn.Parameter]]:
        return [[self.first.weight, self.first.bias], [*self.attention.parameters(), *self.norm.parameters()]]


def test_a_weight_that_is_read_directly_is_adapted_and_batch_norm_statistics_do_not_change() -> None:
    encoder, data = AttentionEncoder(), Tones(sizes=SMALL)
    fitted = finetune(encoder, data, recipe=dataclasses.replace(QUICK, head="mean", time_mask=0, freq_mask=0))
    after = fitted.module.encoder
    assert after.attention.out_proj.parametrizations.weight[0].up.any()
    assert torch.equal(after.norm.running_mean, encoder.norm.running_mean)
    assert not any(part.up.isnan().any() for part in after.modules() if isinstance(part, lora.LowRank))


def test_layers_that_cannot_be_adapted_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'mix' of encoder 'ear' has a weight of \[12, 12\]; choose at most 12"):
        adapted(Ear(), rank=13)
    ear = Ear()
    with pytest.raises(ValueError, match=r"no nn\.Linear beyond the first of its 1 depth groups"):
        lora.adapt(ear, [list(ear.parameters())], rank=2, alpha=None)


def test_training_changes_only_the_updates_and_the_head_and_counts_their_parameters() -> None:
    encoder, data = Ear(), Tones()
    fitted = finetune(encoder, data, recipe=dataclasses.replace(QUICK, epochs=8, lr=0.05, mixup=0))
    assert fitted.parameters == 2 * 3 * 12 + (12 * 3 + 3)
    after = fitted.module.encoder
    assert torch.equal(after.mix.parametrizations.weight.original, encoder.mix.weight)
    assert torch.equal(after.patch.weight, encoder.patch.weight)
    assert torch.equal(after.mix.bias, encoder.mix.bias)
    assert after.mix.parametrizations.weight[0].up.any()
    assert fitted.validation > 0.8
    logits = fitted.predict_logits(data.clips("validation"))
    lora.merge(after)
    assert torch.equal(fitted.predict_logits(data.clips("validation")), logits)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_run_with_updates_resumes_with_and_without_averaged_weights(
    ema: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, recipe = Tones(sizes=SMALL), dataclasses.replace(QUICK, ema=ema, probe_epochs=1)
    whole = finetune(Ear(), data, recipe=recipe)
    main_scores, calls = metrics.main_scores, []

    def interrupt_in_the_third_epoch(*args: object) -> object:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return main_scores(*args)

    with monkeypatch.context() as patched:
        patched.setattr(metrics, "main_scores", interrupt_in_the_third_epoch)
        with pytest.raises(KeyboardInterrupt):
            finetune(Ear(), data, recipe=recipe, checkpoint=tmp_path / "c.pt")
    resumed = finetune(Ear(), data, recipe=recipe, checkpoint=tmp_path / "c.pt")
    assert resumed.history == whole.history
    pairs = zip(whole.module.state_dict().values(), resumed.module.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert torch.equal(whole.module.encoder.mix.parametrizations.weight.original, Ear().mix.weight)
