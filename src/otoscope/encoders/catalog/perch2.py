"""Perch 2: an EfficientNet trained with labels of bird sounds and other animals.

van Merriënboer et al., "Perch 2.0: The Bittern Lesson for Bioacoustics", 2025 (arXiv 2508.04665).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from otoscope.audio.mel import mel_spectrogram
from otoscope.encoders._efficientnet import EfficientNetBody, EfficientNetConfig
from otoscope.encoders.base import register
from otoscope.encoders.catalog._card import Card, Source
from otoscope.encoders.catalog._checkpoint import Converted
from otoscope.encoders.catalog._onnx_weights import Node, read_onnx
from otoscope.encoders.catalog._ported import Ported
from otoscope.types import TokenShape

SAMPLES, STEPS, FRAMES_PER_STEP = 160000, 16, 32
"""Samples and time steps of a window (5 s), and frames that the features have for each time step."""
N_FFT, LENGTH, HOP, BINS = 1024, 640, 320, 128
PEAK, FLOOR, SCALE = 0.25, 1e-5, 0.1
EPSILON = 1e-5
"""Epsilon of BatchNorm."""

_PLACE = re.compile(r"(Stem_0|Head_0|MBConv_\d+)/([^/]+)/(kernel|weight)$")
_OURS = {"ExpandConv": "expand", "DepthwiseConv": "filter", "ProjectConv": "project"}
_NORM = ("scale", "bias", "mean", "var")
_DENSE = re.compile(r"MBConv_(\d+)/SqueezeAndExcitation_0/(Reduce|Expand)/(kernel|bias)$")
_IN_GRAPH = re.compile(r"(MBConv_\d+)/(ExpandConv|DepthwiseConv|ProjectConv)")
_DENSE_IN_GRAPH = re.compile(r"(MBConv_\d+/SqueezeAndExcitation_0/(?:Reduce|Expand))")
_NORM_IN_GRAPH = re.compile(r"((?:Stem_0|MBConv_\d+)/\w*BatchNorm\w*)/")


@register("perch2")
class Perch2(Ported):
    """Perch 2, a supervised encoder of animal sounds, without its classifier.

    The tokens are the map before the last pooling ("spatial_embedding"), 16 time steps x 4 bands for 5 s. Windows have
    5 s, and each is scaled to a peak of 0.25. A shorter clip is followed by silence, which changes all of its tokens.

    The weights are read from the ONNX file, which contains the graph of the published model, or from tensors with the
    names of the authors' code.
    """

    sample_rate = 32000
    longest, step, frames_per_step = 5.0, 5.0 / STEPS, FRAMES_PER_STEP
    config: ClassVar[EfficientNetConfig] = EfficientNetConfig()
    revision = 1
    card = Card(
        about="Perch 2: EfficientNet-B3 trained with labels of birds, insects, mammals and amphibians.",
        homepage="https://www.kaggle.com/models/google/bird-vocalization-classifier",
        licence="Apache-2.0",
        citation="van Merriënboer et al., Perch 2.0: The Bittern Lesson for Bioacoustics, 2025, arXiv 2508.04665",
        sources=(Source(url="https://huggingface.co/justinchuby/Perch-onnx/resolve/main/perch_v2.onnx"),),
        parameters=10.7,
        pretrained_on=("Xeno-canto", "iNaturalist", "Tierstimmenarchiv", "FSD50K"),
        supervised=True,
        unverified=(
            "The names in the ONNX file were taken from a public program that reads it, not from the file.",
            "The authors' code has ReLU in the blocks by default; Swish, and the settings of the front end, are those "
            "with which others reproduced the published outputs.",
            "The list of corpora was not compared with the paper.",
        ),
    )

    def build(self) -> EfficientNetBody:
        """Create the body with random weights."""
        return EfficientNetBody(self.config)

    def token_shape(self) -> TokenShape:
        """Return the shape of the tokens: one layer, 4 bands, no cls token."""
        return TokenShape(1, BINS // 32, self.config.dim, False, 1 / self.step)

    def front_end_name(self) -> str:
        """Return a text that identifies the front end."""
        return f"peak{PEAK}-mel{BINS}-60-16000Hz-{LENGTH}/{HOP}-amplitude-{SCALE}log({FLOOR:g})"

    def features(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Scale windows to one peak and compute their log-mel maps.

        Parameters
        ----------
        waves : float [B, 160000].
        lengths : int64 [B].

        Returns
        -------
        float [B, 512, 128], whose last 12 frames are zero, and int64 [B]: frames of the time steps with audio.
        """
        waves = waves * (PEAK / waves.abs().amax(1, keepdim=True).clamp(min=1e-12))
        side = (LENGTH - HOP) // 2 + (N_FFT - LENGTH) // 2
        mel = mel_spectrogram(
            functional.pad(waves, (side, side)),
            rate=self.sample_rate,
            n_fft=N_FFT,
            hop=HOP,
            bins=BINS,
            win_length=LENGTH,
            periodic=False,
            low=60.0,
            mel_scale="kaldi",
            power=1.0,
            center=False,
        )
        window = torch.hann_window(LENGTH, periodic=False, dtype=torch.float64).sum()
        x = SCALE * (mel / float(window)).clamp(min=FLOOR).log()
        steps = -(-lengths * STEPS // SAMPLES)
        return functional.pad(x, (0, 0, 0, STEPS * FRAMES_PER_STEP - x.shape[1])), steps * FRAMES_PER_STEP

    def _window_samples(self, window: float | None) -> int:
        """The length of a window in samples; raise `ValueError` for one with which the model was not trained."""
        if window is not None and not math.isclose(window, self.longest):
            raise ValueError(f"encoder {self.name!r}: window={window} s; allowed: {self.longest:g} s alone")
        return SAMPLES

    @classmethod
    def read(cls, file: Path) -> Converted:
        """Read an ONNX file, or a checkpoint as in `Ported.read`."""
        return cls.convert(from_graph(*read_onnx(file))) if file.suffix == ".onnx" else super().read(file)

    @classmethod
    def convert(cls, tensors: Mapping[str, Tensor]) -> Converted:
        """Convert tensors with the names of the authors' code; BatchNorm is folded into the convolutions."""
        plain = {re.sub(r"^(params|batch_stats)/", "", name): value for name, value in tensors.items()}
        body, used = {}, set()
        for name, value in plain.items():
            if dense := _DENSE.match(name):
                module = "squeeze" if dense[2] == "Reduce" else "excite"
                kind = "weight" if dense[3] == "kernel" else "bias"
                body[f"blocks.{dense[1]}.{module}.{kind}"] = value.T if kind == "weight" else value
                used.add(name)
            elif place := _PLACE.match(name):
                norm = f"{place[1]}/{place[2].replace('Conv', 'BatchNorm')}"
                parts = {part: f"{norm}/{part}" for part in _NORM if f"{norm}/{part}" in plain}
                own = f"{place[1]}/{place[2]}/bias"
                if not {"scale", "bias"} <= parts.keys():
                    continue
                folded = _folded(value, plain.get(own), {part: plain[key] for part, key in parts.items()})
                ours = _place_in_body(place[1], place[2])
                body[f"{ours}.weight"], body[f"{ours}.bias"] = folded
                used |= {name, own, *parts.values()}
        return Converted(body | {name: value for name, value in plain.items() if name not in used})


def _place_in_body(module: str, convolution: str) -> str:
    if module in ("Stem_0", "Head_0"):
        return module[:-2].lower()
    return f"blocks.{module.removeprefix('MBConv_')}.{_OURS.get(convolution, convolution)}"


def _folded(kernel: Tensor, bias: Tensor | None, norm: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Weight [out, in, kernel, kernel] and bias [out] of a convolution followed by a BatchNorm."""
    mean, var = norm.get("mean"), norm.get("var")
    scale = norm["scale"] if var is None else norm["scale"] / (var + EPSILON).sqrt()
    shift = norm["bias"] if mean is None else norm["bias"] - mean * scale
    if bias is not None:
        shift = shift + bias * scale
    return kernel.permute(3, 2, 0, 1) * scale[:, None, None, None], shift


def from_graph(nodes: Iterable[Node], constants: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Find the weights in the graph of the ONNX file.

    The names of values contain the module of the authors' code. The first and the last convolution are recognised by
    their shapes, and the last BatchNorm by the sum of which the output "spatial_embedding" is the swish.

    Parameters
    ----------
    nodes, constants : as `read_onnx` returns them.

    Returns
    -------
    Tensors with the names of the authors' code. BatchNorm has only a scale and a bias.
    """
    tensors: dict[str, Tensor] = {}
    source = {name: node for node in nodes for name in node.outputs}
    for node in source.values():
        path = node.outputs[0]
        known = [constants[name] for name in node.inputs if name in constants]
        if node.kind == "Conv" and known:
            place = _IN_GRAPH.search(node.inputs[0]) or _IN_GRAPH.search(path)
            outer = "Stem_0/Conv_0" if known[0].shape[1:] == (1, 3, 3) else "Head_0/Conv_0"
            module = f"{place[1]}/{place[2]}" if place else outer
            tensors[f"{module}/kernel"] = known[0].permute(2, 3, 1, 0)
            tensors |= {f"{module}/bias": each for each in known[1:]}
        elif known and (dense := _DENSE_IN_GRAPH.search(path)) and node.kind in ("MatMul", "Add"):
            kind = "kernel" if node.kind == "MatMul" else "bias"
            tensors[f"{dense[1]}/{kind}"] = known[0] if kind == "kernel" else known[0].flatten()
        elif known and (norm := _NORM_IN_GRAPH.search(path)) and node.kind in ("Mul", "Add"):
            tensors[f"{norm[1]}/{'scale' if node.kind == 'Mul' else 'bias'}"] = known[0].flatten()
    last = source.get("spatial_embedding")
    for total in (source[name] for name in (last.inputs if last else ()) if name in source):
        if total.kind == "Add":
            product = next(source[name] for name in total.inputs if name in source)
            for node, part in ((total, "bias"), (product, "scale")):
                tensors |= {f"Head_0/BatchNorm_0/{part}": constants[n].flatten() for n in node.inputs if n in constants}
    return tensors
