"""BEATs: self-supervised iterations 1 to 3, and models fine-tuned on AudioSet.

Chen et al., "BEATs: Audio Pre-Training with Acoustic Tokenizers", ICML 2023 (arXiv 2212.09058).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from otoscope.audio.fbank import fbank, frame_count
from otoscope.encoders._beats import PATCH, BeatsBody, BeatsConfig
from otoscope.encoders.base import register
from otoscope.encoders.catalog._card import Card, Source
from otoscope.encoders.catalog._checkpoint import Converted, check_classifier, take
from otoscope.encoders.catalog._classifier import Classifier
from otoscope.encoders.catalog._ported import Ported
from otoscope.types import TokenShape

MEAN, SPREAD = 15.41663, 6.55582
"""Mean and standard deviation of the features of AudioSet, as the authors give them."""
SCALE = 2.0**15
"""Factor of the waveform, whose samples Kaldi expects as 16-bit integers."""
FRAME, HOP = 400, 160
"""Samples of a frame, and from one frame to the next."""

CLASSIFIER = Classifier(reads="mean", linear=("predictor",), labels="")
"""That of the fine-tuned models. The checkpoint names its classes, which have another order than those of AudioSet."""

_LAYER = re.compile(r"encoder\.layers\.(\d+)\.(?:self_attn\.)?(.+)\.(weight|bias)$")
_NAMES = {
    "patch_embedding": "patch",
    "layer_norm": "norm",
    "post_extract_proj": "project",
    "encoder.pos_conv.0": "positions",
    "encoder.layer_norm": "positions_norm",
}
_BLOCK_NAMES = {
    "out_proj": "out",
    "grep_linear": "gate",
    "self_attn_layer_norm": "norm1",
    "fc1": "up",
    "fc2": "down",
    "final_layer_norm": "norm2",
}
_UNUSED = ("patch_embedding_pad.weight", "raw2fbank_pad.weight", "fbank.window", "fbank.mel_fb")


class Beats(Ported):
    """The base class of BEATs and of the models that are derived from it.

    The longest window has 63 time steps of 0.16 s. The tokens of a clip that is shorter than a window equal those of
    the official code: frames after the last whole patch are dropped, so a clip of 10 s has 62 time steps. A clip, or
    the rest of a long clip in its last window, that is shorter than one patch (0.175 s), which the official code
    refuses, is padded with silence to one. Where audio fills a window, its last patch is completed with silence (240
    samples), so that the time axis of a long clip has no gaps. Dropout and LayerDrop of the authors' training are left
    out.
    """

    sample_rate = 16000
    longest, step, frames_per_step = 10.08, 0.16, PATCH
    config: ClassVar[BeatsConfig] = BeatsConfig()
    fine_tuned: ClassVar[bool] = False
    revision = 1

    def build(self) -> BeatsBody:
        """Create the body with random weights."""
        return BeatsBody(self.config)

    def token_shape(self) -> TokenShape:
        """Return the shape of the tokens: patches in 8 bands, no cls token."""
        return TokenShape(self.config.depth, self.config.bins // PATCH, self.config.dim, False, 1 / self.step)

    def front_end_name(self) -> str:
        """Return a text that identifies the front end."""
        return f"kaldi-fbank{self.config.bins}-povey-25/10ms-x2^15-({MEAN},{SPREAD})-whole-patches"

    def features(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute standardised log-mel features as Kaldi does.

        Parameters
        ----------
        waves : float [B, window_samples].
        lengths : int64 [B].

        Returns
        -------
        float [B, frames, bins], and int64 [B]: the number of frames in whole patches.
        """
        waves = torch.nn.functional.pad(waves, (0, FRAME - HOP)) * SCALE
        x = fbank(waves, bins=self.config.bins, window="povey").sub_(MEAN).div_(2 * SPREAD)
        frames = frame_count(lengths) // PATCH * PATCH
        return x, torch.where(lengths == self.window_samples, x.shape[1], frames.clamp(min=PATCH))

    @classmethod
    def convert(cls, tensors: Mapping[str, Tensor]) -> Converted:
        """Convert the tensors of a published checkpoint.

        The names may have a prefix, such as "backbone." or "encoder.". The convolution of positions is stored with a
        norm and a direction; the body has their product.

        Raises
        ------
        CheckpointError : for a fine-tuned checkpoint where a self-supervised one is expected, and the other way round.
        """
        patch = next((name for name in tensors if name.endswith("patch_embedding.weight")), "patch_embedding.weight")
        prefix = patch.removesuffix("patch_embedding.weight")
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        others = {name: value for name, value in tensors.items() if not name.startswith(prefix)}
        head = take(own, ("predictor.",))
        check_classifier(cls.name, head, fine_tuned=cls.fine_tuned)
        unused = [name for name in own if name in _UNUSED]
        tables = sorted((name for name in own if "relative_attention_bias" in name), key=_layer_number)
        unused += tables[1:]
        own = {name: value for name, value in own.items() if name not in unused}
        body = {_renamed(name): value for name, value in _join_positions(own).items()}
        return Converted(_join_attention(body) | others, head, tuple(prefix + name for name in unused))


def _layer_number(name: str) -> int:
    layer = _LAYER.match(name)
    return int(layer[1]) if layer else 0


def _renamed(name: str) -> str:
    """The name of a tensor in the body; unknown names stay as they are."""
    if name.endswith("relative_attention_bias.weight"):
        return "distances.weight"
    name = re.sub(r"^encoder\.layers\.(\d+)\.self_attn\.grep_a$", r"blocks.\1.gate_scale", name)
    if layer := _LAYER.match(name):
        return f"blocks.{layer[1]}.{_BLOCK_NAMES.get(layer[2], layer[2])}.{layer[3]}"
    module, _, kind = name.rpartition(".")
    return f"{_NAMES[module]}.{kind}" if module in _NAMES else name


def _join_positions(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Multiply norm and direction of the convolution of positions, in both ways in which torch stores them."""
    base = "encoder.pos_conv.0"
    for norm, direction in (
        (f"{base}.weight_g", f"{base}.weight_v"),
        (f"{base}.parametrizations.weight.original0", f"{base}.parametrizations.weight.original1"),
    ):
        if norm in tensors and direction in tensors:
            g, v = tensors[norm].float(), tensors[direction].float()
            rest = {name: value for name, value in tensors.items() if name not in (norm, direction)}
            return rest | {f"{base}.weight": v * (g / v.norm(dim=(0, 1), keepdim=True))}
    return tensors


def _join_attention(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Join queries, keys and values of each block. Tensors stay as they are where one of the three is missing."""
    joined = dict(tensors)
    for name in tensors:
        parts = [name.replace(".q_proj.", f".{part}_proj.") for part in "qkv"]
        if ".q_proj." in name and all(part in tensors for part in parts):
            joined[name.replace(".q_proj.", ".qkv.")] = torch.cat([joined.pop(part) for part in parts])
    return joined


_HOMEPAGE = "https://github.com/microsoft/unilm/tree/master/beats"
_MIRROR = "https://huggingface.co/lpepino/beats_ckpts/resolve/5b53b0404df452a3a607d7e67687227730e5bad1/"
_SIZE, _TUNED_SIZE = 361_499_833, 363_145_291


def _card(about: str, name: str, sha256: str, *others: str, supervised: bool = False, checked: bool = True) -> Card:
    """The card of a checkpoint of the authors.

    `others` are further addresses, and `checked` says whether it was verified that the mirror has the file.
    """
    size = _TUNED_SIZE if supervised else _SIZE
    unverified = ["Size and SHA-256 were recorded by others, who downloaded the file of the authors."]
    if not checked:
        unverified.append("It was not verified that the mirror has this file.")
    return Card(
        about=about,
        homepage=_HOMEPAGE,
        licence="MIT",
        citation="Chen et al., BEATs: Audio Pre-Training with Acoustic Tokenizers, ICML 2023, arXiv 2212.09058",
        sources=tuple(Source(url=url, size=size, sha256=sha256) for url in (_MIRROR + name, *others)),
        parameters=90.3,
        pretrained_on=("AudioSet",),
        supervised=supervised,
        instructions=(
            f"The authors share {name} on OneDrive, in the table of {_HOMEPAGE}. Download it there with a browser."
        ),
        unverified=tuple(unverified),
    )


@register("beats-iter1")
class BeatsIter1(Beats):
    """BEATs after the first iteration, whose targets are those of a random projection."""

    card = _card(
        "BEATs, first iteration, self-supervised; its targets are those of a random projection.",
        "BEATs_iter1.pt",
        "b5f4cc10bcbff63a437c695f33389e6411513b3f7d5cdae8fb62b5005f4a1fcd",
        checked=False,
    )
    revision = 1


@register("beats-iter2")
class BeatsIter2(Beats):
    """BEATs after the second iteration, whose targets are those of a tokenizer distilled from the first."""

    card = _card(
        "BEATs, second iteration, self-supervised.",
        "BEATs_iter2.pt",
        "81a23e00aa4878d7e8627ded87ea697fb347c8ceffed21223e0398ed0fa34ad8",
        checked=False,
    )
    revision = 1


@register("beats-iter3")
class BeatsIter3(Beats):
    """BEATs after the third iteration, self-supervised: the BEATs of most comparisons."""

    card = _card(
        "BEATs, third iteration, self-supervised.",
        "BEATs_iter3.pt",
        "8d1b234032a9ccff353612dc6c20982346dc2968b205b79d97303eb5e77bfb34",
    )
    revision = 1


@register("beats-iter3-plus")
class BeatsIter3Plus(Beats):
    """BEATs iteration 3+: its tokenizer was distilled from a model that was fine-tuned with the labels of AudioSet.

    The file is named BEATs_iter3_plus_AS2M.pt. It is pretrained; AS2M is the data of the teacher's fine-tuning.
    """

    card = _card(
        "BEATs, iteration 3+: pretrained with targets of a tokenizer whose teacher had the labels of AudioSet.",
        "BEATs_iter3_plus_AS2M.pt",
        "d43cbfad4d7b56381c061d7a24774f908d4d94c72961f6eb1d9090ff18cd8d34",
        "https://huggingface.co/magcil/deepaudiox-backbones/resolve/main/BEATs_iter3_plus_AS2M.pt",
        "https://huggingface.co/datasets/Bencr/beats-checkpoints/resolve/main/BEATs_iter3_plus_AS2M.pt",
    )
    revision = 1


@register("beats-iter3-as2m")
class BeatsIter3As2m(Beats):
    """BEATs iteration 3, fine-tuned on the labels of AudioSet (2 million clips), first checkpoint of the authors."""

    card = _card(
        "BEATs, third iteration, fine-tuned on AudioSet with 527 classes.",
        "BEATs_iter3_finetuned_on_AS2M_cpt1.pt",
        "379369a41d0b3749f746cdcea8036de506cb3aedecce84de7db0a75fda2a4fe7",
        supervised=True,
    )
    fine_tuned = True
    classifier = CLASSIFIER
    revision = 1


@register("beats-iter3-plus-as2m")
class BeatsIter3PlusAs2m(Beats):
    """BEATs iteration 3+, fine-tuned on the labels of AudioSet (2 million clips), second checkpoint of the authors."""

    card = _card(
        "BEATs, iteration 3+, fine-tuned on AudioSet with 527 classes.",
        "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt",
        "e5815275a04b6885e7b8af63d120b29bffae2cd2225cf4915e1ec6d819d3022c",
        supervised=True,
        checked=False,
    )
    fine_tuned = True
    classifier = CLASSIFIER
    revision = 1
