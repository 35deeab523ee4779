"""`fixedproto`: prototypes that are not trained, and a linear layer that is solved exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from otoscope.ops import max_dot, pack_signs, unpack_signs
from otoscope.probes._linear_head import FixedFeatureProbe
from otoscope.probes._prototypes import draw_tokens
from otoscope.probes.base import register
from otoscope.types import Tokens, TokenShape

Source = Literal["signs", "tokens", "random"]
SOURCES = ("signs", "tokens", "random")


@register("fixedproto")
class FixedPrototypes(FixedFeatureProbe):
    """The largest cosine of each of K fixed prototypes with any token of a clip, then a linear layer.

        s_k = max_n <z_n / |z_n|, p_k / |p_k|>
        logits = W s + b

    Here n runs over the valid tokens. s_k is the support function of the clip's set of L2-normalised tokens in the
    direction p_k (Rockafellar, "Convex Analysis", 1970), so the features approximate the convex hull of the tokens. No
    prototype is trained and the linear layer is solved to its optimum, so the probe has no learning rate and reads the
    tokens once. The features are random, as those of Rahimi and Recht (2007), but each one is a maximum over tokens.

    Each of several layers has K prototypes, and the features of all layers are concatenated.

    Input x [B, L, T, F, D], output [B, C], LKC + C parameters.

    Parameters
    ----------
    prototypes : number of prototypes of each layer, K.
    source : "tokens" for random tokens of the train clips minus their mean; "signs" for the signs of these
        differences; "random" for random signs that do not depend on the data.
    seed : seed of the random choice of prototypes.
    positive_weight : factor of the loss of positive labels, see `FixedFeatureBase`.

    Raises
    ------
    ValueError : for an unknown source, or a number of prototypes that is not a whole number of at least 1.

    Examples
    --------
    >>> probe = FixedPrototypes(TokenShape(1, 2, 8, True, 6.25), 3, prototypes=5, source="random")
    >>> probe(Tokens(torch.randn(4, 1, 6, 2, 8))).shape, probe.prototypes.unique().tolist()
    (torch.Size([4, 3]), [-1.0, 1.0])
    """

    normalises_tokens = True
    reads_layers_side_by_side = True
    prototypes: Tensor

    def __init__(
        self,
        shape: TokenShape,
        n_classes: int,
        *,
        prototypes: int = 2000,
        source: Source = "signs",
        seed: int = 0,
        positive_weight: float = 1.0,
    ) -> None:
        if source not in SOURCES:
            raise ValueError(f"source {source!r}; allowed: {', '.join(map(repr, SOURCES))}")
        if not isinstance(prototypes, int) or isinstance(prototypes, bool) or prototypes < 1:
            raise ValueError(f"prototypes={prototypes!r} of fixedproto; allowed: a whole number of at least 1")
        super().__init__(shape, n_classes, shape.layers * prototypes, "none", "exact", positive_weight)
        self.source, self.seed = source, seed
        signs = torch.randint(0, 2, (shape.layers, prototypes, shape.dim), generator=self._generator(), device="cpu")
        self.register_buffer("prototypes", 2.0 * signs.to(self.head.linear.weight) - 1)

    def prepare(self, load: Callable[[Tensor], Tokens], targets: Tensor) -> None:
        """Choose the prototypes among the tokens of the train clips (`draw_tokens`), unless they are random signs.

        Parameters
        ----------
        load : loads the tokens of train clips by their index.
        targets : float [n, C]. Only the number of clips matters.
        """
        if self.source == "random":
            return
        centred = draw_tokens(load, len(targets), self.prototypes.shape[1], self._generator())
        # Tokens are rounded as they are shipped, so that the layer is solved for the prototypes that are loaded later.
        chosen = torch.where(centred >= 0, 1.0, -1.0) if self.source == "signs" else centred.half().float()
        self.prototypes = chosen.to(self.prototypes)

    def features(self, tokens: Tokens) -> Tensor:
        z, mask = tokens.normalised().flat, tokens.token_mask
        directions = F.normalize(self.prototypes, dim=2)
        return torch.cat([max_dot(z[:, i], directions[i], mask)[0] for i in range(self.shape.layers)], 1)

    def layer_state(self, i: int) -> Tensor:
        """The prototypes of layer i."""
        return self.prototypes[i]

    def macs(self, n_tokens: int) -> int:
        K, D, L = self.prototypes.shape[1], self.shape.dim, self.shape.layers
        return n_tokens * L * (D + K * D) + self.head.macs()

    def shipped_state(self) -> dict[str, Tensor]:
        """See `Probe.shipped_state`.

        The linear layer, and one bit for each sign of a prototype, or two bytes for each value of a token. Random signs
        are drawn again from the seed; only the first prototype of each layer is stored, to check them.
        """
        state = super().shipped_state()
        prototypes = state.pop("prototypes")
        if self.source == "tokens":
            return state | {"prototypes": prototypes.half()}
        return state | {"signs": pack_signs(prototypes if self.source == "signs" else prototypes[:, :1])}

    def load_shipped(self, state: Mapping[str, Tensor]) -> None:
        """See `Probe.load_shipped`.

        Raises
        ------
        RuntimeError : also when this version of torch draws other random signs than the one that trained the probe.
        """
        tensors = dict(state)
        if "signs" in tensors:
            signs = unpack_signs(tensors.pop("signs"), self.shape.dim)
            if self.source == "random":
                if not torch.equal(signs.to(self.prototypes), self.prototypes[:, :1]):
                    raise RuntimeError(
                        f"torch {torch.__version__} draws other random signs from seed {self.seed} than the version "
                        "that trained this probe; fit it again, or load it with that version"
                    )
                signs = self.prototypes
            tensors["prototypes"] = signs
        super().load_shipped(tensors)

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)
