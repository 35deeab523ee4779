"""The last layer of probes: a linear layer, with an optional normalisation in front of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

Norm = Literal["none", "layer", "batch"]
NORMS = ("none", "layer", "batch")


class BatchNorm(nn.BatchNorm1d):
    """BatchNorm without affine parameters over the last axis of float [..., D], eps 1e-6, as in MAE.

    A training batch of one vector has no variance and is normalised by the running statistics.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if self.training and len(rows) == 1:
            return nn.functional.batch_norm(rows, self.running_mean, self.running_var, eps=self.eps).view_as(x)
        return super().forward(rows).view_as(x)


class Head(nn.Module):
    """A normalisation and a linear layer: logits = W norm(h) + b.

    Input h [..., width], output [..., C]. The normalisation changes the ranking of probes and encoders, so probes offer
    it as an option.

    Parameters
    ----------
    width : number of input channels.
    n_classes : number of logits, C.
    norm : "none" (Rauch et al., arXiv 2509.24901), "layer" (LayerNorm with affine parameters; BAT, arXiv 2602.16305) or
        "batch" (BatchNorm without affine parameters; efficient probing, arXiv 2506.10178).

    Examples
    --------
    >>> Head(4, 2, "layer")(torch.zeros(3, 4)).shape
    torch.Size([3, 2])
    """

    def __init__(self, width: int, n_classes: int, norm: Norm = "none") -> None:
        super().__init__()
        self.norm = make_norm(norm, width)
        self.linear = nn.Linear(width, n_classes)

    def forward(self, h: Tensor) -> Tensor:
        """Logits, float [..., C], of h, float [..., width]."""
        out: Tensor = self.linear(self.norm(h))
        return out

    def stacked_forward(self, parameters: Mapping[str, Tensor], h: Tensor) -> Tensor:
        """Compute the logits of R heads of this shape at once; not for norm="batch".

        If all heads have the same input, their weights are multiplied as one matrix.

        Parameters
        ----------
        parameters : parameters of the R heads by name, each float [R, ...].
        h : float [R, B, width], or [1, B, width] if all heads have the same input.

        Returns
        -------
        float [R, B, C].
        """
        weight, bias = parameters["linear.weight"], parameters["linear.bias"]
        if isinstance(self.norm, nn.LayerNorm):
            scale, shift = parameters["norm.weight"], parameters["norm.bias"]
            h = nn.functional.layer_norm(h, h.shape[-1:], eps=self.norm.eps) * scale[:, None] + shift[:, None]
        if len(h) == 1:
            flat: Tensor = nn.functional.linear(h[0], weight.flatten(0, 1), bias.flatten())
            return flat.view(-1, *bias.shape).transpose(0, 1).contiguous()
        return torch.baddbmm(bias[:, :, None], weight, h.mT).mT.contiguous()

    @property
    def norms(self) -> bool:
        """Whether the head normalises its input."""
        return not isinstance(self.norm, nn.Identity)

    def macs(self, vectors: int = 1) -> int:
        """Multiply-accumulates of the head for this number of input vectors."""
        return vectors * (self.linear.weight.numel() + norm_macs(self.norm, self.linear.in_features))


@torch.no_grad()
def fold_into(layer: nn.Linear, mean: Tensor, scale: Tensor) -> bool:
    """Change a linear layer so that its output for x equals its former output for (x - mean) / scale.

    Parameters
    ----------
    layer : the layer, changed in place.
    mean, scale : float [W].

    Returns
    -------
    bool. True.

    Examples
    --------
    >>> layer, x = nn.Linear(2, 3), torch.tensor([[5.0, 7.0]])
    >>> before = layer((x - 1) / 2)
    >>> fold_into(layer, torch.ones(2), torch.full((2,), 2.0)), torch.allclose(layer(x), before, atol=1e-5)
    (True, True)
    """
    layer.weight.div_(scale)
    layer.bias.sub_(layer.weight @ mean)
    return True


def make_norm(norm: Norm, width: int) -> nn.Module:
    """Build a normalisation over vectors of `width` channels.

    Raises
    ------
    ValueError : when `norm` is none of "none", "layer" and "batch".
    """
    if norm not in NORMS:
        raise ValueError(f"norm {norm!r}; allowed: {', '.join(map(repr, NORMS))}")
    modules: dict[str, type[nn.Module]] = {"none": nn.Identity, "layer": nn.LayerNorm, "batch": BatchNorm}
    return modules[norm](width)


def norm_macs(norm: nn.Module, width: int) -> int:
    """Multiply-accumulates of a normalisation for one vector."""
    return 0 if isinstance(norm, nn.Identity) else width
