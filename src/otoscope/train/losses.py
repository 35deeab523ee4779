"""The losses of the training loop: one for clips that carry many labels, one for clips that carry exactly one.

Both take logits [B, C] and targets [B, C] in 0..1 (multi-hot, one-hot, or the soft targets of mixup) and return a
scalar: the mean over clips of the sum over classes, so that a clip weighs the same whatever the batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor], Tensor]


def asymmetric(
    logits: Tensor, targets: Tensor, *, gamma_neg: float = 4.0, gamma_pos: float = 1.0, clip: float = 0.05
) -> Tensor:
    """Asymmetric loss (Ridnik et al., ICCV 2021, eq. 5-7).

    With p = sigmoid(logit) and the shifted p_m = max(p - clip, 0),
    L = -y (1 - p)^gamma_pos log(p) - (1 - y) p_m^gamma_neg log(1 - p_m).
    An absent class with p <= clip costs nothing. The focusing weights take part in the gradient, as the equation says
    (the authors' code can detach them). Computed in float32 or wider, and finite for any finite logit.

    logits, targets: [B, C]; returns a scalar. Raises `ValueError` for a negative gamma or one strictly between 0 and 1
    (its gradient is infinite at p = 0), and for a clip outside [0, 1).

    >>> float(asymmetric(torch.zeros(1, 1), torch.ones(1, 1)))  # (1 - 0.5) * -log(0.5)
    0.3465735912322998
    """
    if min(gamma_neg, gamma_pos) < 0 or 0 < gamma_neg < 1 or 0 < gamma_pos < 1 or not 0 <= clip < 1:
        raise ValueError(
            f"asymmetric loss: gammas must be 0 or >= 1 and clip in [0, 1); found {gamma_neg=}, {gamma_pos=}, {clip=}"
        )
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    present = functional.logsigmoid(logits) * torch.sigmoid(-logits).pow(gamma_pos)
    log_absent = (torch.sigmoid(-logits) + clip).clamp(max=1).log() if clip else functional.logsigmoid(-logits)
    absent = log_absent * (torch.sigmoid(logits) - clip).clamp(min=0).pow(gamma_neg)
    return -(targets * present + (1 - targets) * absent).sum(1).mean()


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Softmax cross-entropy with targets as distributions: -sum_c y_c log softmax(logits)_c, mean over clips.

    logits, targets: [B, C]; returns a scalar.

    >>> round(float(cross_entropy(torch.zeros(1, 4), torch.eye(4)[:1])), 4)  # log 4
    1.3863
    """
    return functional.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets)


_LOSSES: dict[str, Loss] = {"multi-label": asymmetric, "multi-class": cross_entropy}


def loss_for(kind: str) -> Loss:
    """The loss of a task of this kind: asymmetric for "multi-label", cross-entropy for "multi-class".

    >>> loss_for("multi-class").__name__
    'cross_entropy'
    """
    if kind not in _LOSSES:
        raise ValueError(f"no loss for a task of kind {kind!r}; allowed: {', '.join(map(repr, _LOSSES))}")
    return _LOSSES[kind]
