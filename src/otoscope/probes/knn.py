"""`knn`: a vote of the nearest training clips."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from otoscope.probes.base import ClipProbe, register
from otoscope.types import Tokens, TokenShape

BLOCK = 1 << 22
"""Number of cosines that are computed at once."""


@register("knn")
class Knn(ClipProbe):
    """A vote of the k training clips that are nearest to a clip.

        p_c = sum_i w_i y_ic / sum_i w_i, w_i = exp(s_i / temperature)
        logits = log(p / (1 - p)), p limited to [1e-6, 1 - 1e-6]

    Here i runs over the k nearest training clips, y_i are their labels, and s_i is the cosine of the vectors of both
    clips; with several layers, the mean of the layers' cosines. Nothing is trained: the training loop passes the
    training clips to `partial_fit`. Cosines are computed in blocks, which bounds their memory for any number of
    training clips. Where there are fewer than k training clips, all of them vote.

    Input cls [B, L, D] or the masked mean, output [B, C], no parameters.

    Parameters
    ----------
    k : number of neighbours.
    temperature : temperature of the weights.
    feature : "summary" for the cls token (the masked mean where there is none), "mean" for the masked mean.

    References
    ----------
    Wu et al., arXiv 1805.01978. Rauch et al., arXiv 2509.24901, use k from 5 to 200 and temperatures .07, .1 and .2.

    Examples
    --------
    >>> probe = Knn(TokenShape(1, 1, 2, True, 6.25), 2, k=1)
    >>> clips = Tokens(torch.zeros(2, 1, 1, 1, 2), cls=torch.eye(2)[:, None])
    >>> probe.partial_fit(clips, torch.eye(2))
    >>> probe(clips).argmax(1).tolist()
    [0, 1]
    """

    reads = "summary"
    solver = "stored"
    keys: Tensor
    labels: Tensor

    def __init__(
        self,
        shape: TokenShape,
        n_classes: int,
        *,
        k: int = 20,
        temperature: float = 0.07,
        feature: Literal["summary", "mean"] = "summary",
    ) -> None:
        super().__init__(shape, n_classes)
        if k < 1 or temperature <= 0:
            raise ValueError(f"knn needs k >= 1 and temperature > 0, found k={k}, temperature={temperature}")
        if feature not in ("summary", "mean"):
            raise ValueError(f"knn feature {feature!r}; allowed: 'summary', 'mean'")
        self.k, self.temperature, self.feature = k, temperature, feature
        self.register_buffer("keys", torch.empty(0, shape.layers * shape.dim))
        self.register_buffer("labels", torch.empty(0, n_classes))
        self._new: list[tuple[Tensor, Tensor]] = []

    def _embed(self, tokens: Tokens) -> Tensor:
        """Vectors, float [B, L D], whose inner product is the mean of the layers' cosines."""
        vectors = tokens.mean if self.feature == "mean" else tokens.summary
        return F.normalize(vectors, dim=2).flatten(1) / math.sqrt(vectors.shape[1])

    def partial_fit(self, tokens: Tokens, targets: Tensor) -> None:
        self._new.append((self._embed(tokens).detach(), targets.detach().to(tokens.x.dtype)))

    def _gather(self) -> None:
        """Append the clips of new `partial_fit` calls to the buffers."""
        if self._new:
            keys, labels = zip(*self._new, strict=True)
            self.keys, self.labels = (
                torch.cat([self.keys.to(keys[0]), *keys]),
                torch.cat([self.labels.to(labels[0]), *labels]),
            )
            self._new.clear()

    def forward(self, tokens: Tokens) -> Tensor:
        self._gather()
        if not len(self.keys):
            raise RuntimeError(
                "knn has stored no training clips; call partial_fit(tokens, targets) before the forward pass"
            )
        query = self._embed(tokens)
        best = query.new_full((len(query), 0), -torch.inf)
        index = torch.empty(len(query), 0, dtype=torch.int64, device=query.device)
        step = max(1, BLOCK // max(1, len(query)))
        for start in range(0, len(self.keys), step):
            cosine = query @ self.keys[start : start + step].to(query.dtype).T
            values, columns = cosine.topk(min(self.k, cosine.shape[1]), 1)
            best, index = torch.cat([best, values], 1), torch.cat([index, columns + start], 1)
            best, columns = best.topk(min(self.k, best.shape[1]), 1)
            index = index.gather(1, columns)
        weight = (best / self.temperature).softmax(1)
        share = torch.einsum("bk,bkc->bc", weight, self.labels[index].to(weight.dtype))
        return torch.logit(share, 1e-6)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The state of the module, with all clips that `partial_fit` has stored."""
        self._gather()
        return super().state_dict(*args, **kwargs)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        for name in ("keys", "labels"):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def macs(self, n_tokens: int) -> int:  # noqa: ARG002
        """Multiply-accumulates for one clip and one stored training clip."""
        return self.keys.shape[1]

    @property
    def shipped_bytes(self) -> int:
        """Bytes of one stored training clip."""
        return 4 * (self.keys.shape[1] + self.n_classes)
