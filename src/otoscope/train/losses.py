"""Losses for clips with several labels and for clips with exactly one label.

Both losses are the mean over clips of the sum over classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits [..., B, C] and targets [B, C] or [..., B, C] -> losses [...]."""


def asymmetric(
    logits: Tensor, targets: Tensor, *, gamma_neg: float = 4.0, gamma_pos: float = 1.0, clip: float = 0.05
) -> Tensor:
    """Asymmetric loss (Ridnik et al., ICCV 2021, eq. 5-7).

    With p = sigmoid(logit) and the shifted p_m = max(p - clip, 0),
    L = -y (1 - p)^gamma_pos log(p) - (1 - y) p_m^gamma_neg log(1 - p_m).
    The loss of an absent class with p <= clip is 0. The focusing weights take part in the gradient, as in the equation
    (the authors' code can detach them). The loss is computed in float32 or wider, and is finite for any finite logit.
    It is differentiable once, with respect to the logits; its gradient is computed by a formula in one step.

    Parameters
    ----------
    logits : float [..., B, C].
    targets : float [B, C] or [..., B, C], in 0..1.
    gamma_neg, gamma_pos : focusing exponents of absent and of present classes, 0 or at least 1.
    clip : probability margin of absent classes, in [0, 1).

    Returns
    -------
    float [...]. The losses.

    Raises
    ------
    ValueError : for a negative gamma, a gamma strictly between 0 and 1 (its gradient is infinite at p = 0), or a clip
        outside [0, 1).

    Examples
    --------
    >>> float(asymmetric(torch.zeros(1, 1), torch.ones(1, 1)))  # (1 - 0.5) * -log(0.5)
    0.3465735912322998
    """
    if min(gamma_neg, gamma_pos) < 0 or 0 < gamma_neg < 1 or 0 < gamma_pos < 1 or not 0 <= clip < 1:
        raise ValueError(
            f"asymmetric loss: gammas must be 0 or >= 1 and clip in [0, 1); found {gamma_neg=}, {gamma_pos=}, {clip=}"
        )
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    gain: Tensor = _Asymmetric.apply(logits, targets.to(logits.dtype), gamma_neg, gamma_pos, clip)  # type: ignore[no-untyped-call]
    return gain.sum((-2, -1)) / -logits.shape[-2]


def asymmetric_reference(
    logits: Tensor, targets: Tensor, *, gamma_neg: float = 4.0, gamma_pos: float = 1.0, clip: float = 0.05
) -> Tensor:
    """The equation of `asymmetric`, written plainly. Its gradient is not finite where p or 1 - p_m rounds to 0.

    Parameters
    ----------
    logits, targets, gamma_neg, gamma_pos, clip : as for `asymmetric`.

    Returns
    -------
    float [...]. The losses.

    Examples
    --------
    >>> round(float(asymmetric_reference(torch.zeros(1, 1), torch.ones(1, 1))), 4)
    0.3466
    """
    p = torch.sigmoid(logits)
    shifted = (p - clip).clamp(min=0)
    present, absent = (1 - p) ** gamma_pos * p.log(), shifted**gamma_neg * (1 - shifted).log()
    return -(targets * present + (1 - targets) * absent).sum(-1).mean(-1)


class _Asymmetric(torch.autograd.Function):
    """Elementwise y q^gamma_pos log(p) + (1 - y) p_m^gamma_neg log(r), with q = 1 - p and r = 1 - p_m.

    The derivative of the first term is y q^gamma_pos (q - gamma_pos p log(p)). The derivative of the second term is
    (1 - y) p q p_m^(gamma_neg - 1) (gamma_neg log(r) - p_m / r) where p > clip, and 0 elsewhere.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, gamma_neg: float, gamma_pos: float, clip: float) -> Tensor:
        p, log_p = torch.sigmoid(logits), functional.logsigmoid(logits)
        q = 1 - p
        r = (q + clip).clamp_(max=1)
        log_r = r.log() if clip else functional.logsigmoid(-logits)
        shifted = 1 - r if clip else p
        shifted = shifted if gamma_neg else (shifted > 0).to(p.dtype)
        rest, focus = shifted.pow(max(gamma_neg - 1, 0)), q if gamma_pos == 1 else q.pow(gamma_pos)
        gain = torch.lerp((rest * shifted).mul_(log_r), focus * log_p, targets)
        if ctx.needs_input_grad[0]:
            present = torch.addcmul(q, p, log_p, value=-gamma_pos).mul_(focus)
            if clip:
                absent = torch.addcdiv(log_r.mul_(gamma_neg), shifted, r, value=-1).mul_(q)
            else:
                absent = (log_r * q).mul_(gamma_neg).sub_(shifted)
            ctx.save_for_backward(torch.lerp(absent.mul_(p).mul_(rest), present, targets))
        return gain

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("asymmetric is differentiable once; use asymmetric_reference with create_graph=True")
        (slope,) = ctx.saved_tensors
        return grads[0] * slope, None, None, None, None


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Softmax cross-entropy, -sum_c y_c log softmax(logits)_c, mean over clips.

    Parameters
    ----------
    logits : float [..., B, C].
    targets : float [B, C] or [..., B, C], a distribution over the classes for each clip.

    Returns
    -------
    float [...]. The losses.

    Examples
    --------
    >>> round(float(cross_entropy(torch.zeros(1, 4), torch.eye(4)[:1])), 4)  # log 4
    1.3863
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return (targets * logits.log_softmax(-1)).sum((-2, -1)) / -logits.shape[-2]


_LOSSES: dict[str, Loss] = {"multi-label": asymmetric, "multi-class": cross_entropy}


def loss_for(kind: str) -> Loss:
    """The loss of a task.

    Parameters
    ----------
    kind : "multi-label" for `asymmetric`, "multi-class" for `cross_entropy`.

    Raises
    ------
    ValueError : for another kind.

    Examples
    --------
    >>> loss_for("multi-class").__name__
    'cross_entropy'
    """
    if kind not in _LOSSES:
        raise ValueError(f"no loss for a task of kind {kind!r}; allowed: {', '.join(map(repr, _LOSSES))}")
    return _LOSSES[kind]
