"""Transformer blocks that the encoders share, with attention by `scaled_dot_product_attention`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, cast

from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


class Block(nn.Module):
    """A transformer block: attention and a feed-forward network, each with a residual connection and a LayerNorm.

    With norm "pre" (ViT, Dosovitskiy et al. 2021) the input of attention and feed-forward network is normalised; with
    "post" (Vaswani et al. 2017) the sum after each of them.

    Parameters
    ----------
    dim : width D of the tokens.
    heads : number of attention heads, a divisor of `dim`.
    hidden : width of the feed-forward network; 4 D by default.
    norm : "pre" or "post".
    residual : factor of the residual connection with norm "post" (DeepNorm, Wang et al. 2022, has more than 1).
    eps : epsilon of the LayerNorms.
    qkv_bias : whether queries, keys and values have a bias.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        hidden: int | None = None,
        norm: Literal["pre", "post"] = "pre",
        residual: float = 1.0,
        eps: float = 1e-5,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__()
        self.heads, self.norm, self.residual = heads, norm, residual
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps), nn.LayerNorm(dim, eps)
        self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=qkv_bias), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, hidden or 4 * dim), nn.Linear(hidden or 4 * dim, dim)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Apply the block.

        Parameters
        ----------
        x : float [B, N, D]. Tokens.
        bias : float, added to the products of queries and keys, or bool, True where a key is attended; broadcast to
            [B, heads, N, N]. None where all keys are attended alike.

        Returns
        -------
        float [B, N, D].
        """
        if self.norm == "pre":
            x = x + self.attention(self.norm1(x), bias)
            return x + self.feed_forward(self.norm2(x))
        x = self.norm1(self.residual * x + self.attention(x, bias))
        return cast(Tensor, self.norm2(self.residual * x + self.feed_forward(x)))

    def attention(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Compute multi-head self-attention of tokens [B, N, D]; the arguments are those of `forward`."""
        return cast(Tensor, self.out(self.attended(x, bias)))

    def attended(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Compute the values that each head attends to, before their projection, float [B, N, D]."""
        B, N, D = x.shape
        q, k, v = self.qkv(x).view(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return attended.transpose(1, 2).reshape(B, N, D)

    def feed_forward(self, x: Tensor) -> Tensor:
        """Apply the feed-forward network to tokens [B, N, D]."""
        return cast(Tensor, self.down(functional.gelu(self.up(x))))


def groups_of_blocks(
    module: nn.Module, blocks: Iterable[nn.Module], last: Iterable[nn.Module]
) -> list[list[nn.Parameter]]:
    """Group the parameters of a module by depth, for `Encoder.depth_groups`.

    Parameters
    ----------
    module : the module.
    blocks : its blocks, from input to output.
    last : modules after the blocks, such as a final norm.

    Returns
    -------
    All parameters outside of `blocks` and `last`, then those of each block; those of `last` are in the last group.
    """
    groups = [list(block.parameters()) for block in blocks]
    groups[-1] += [parameter for part in last for parameter in part.parameters()]
    grouped = {id(parameter) for group in groups for parameter in group}
    return [[parameter for parameter in module.parameters() if id(parameter) not in grouped], *groups]


def block_outputs(
    blocks: Iterable[nn.Module], x: Tensor, *context: Tensor | None, checkpointing: bool = False
) -> list[Tensor]:
    """Apply blocks one after another.

    Parameters
    ----------
    blocks : the blocks.
    x : float [B, N, D]. Tokens.
    context : further arguments of every block, such as `bias` of `Block.forward`.
    checkpointing : whether activations inside a block are computed again in the backward pass, which needs less memory
        (Chen et al. 2016). It has no effect without gradient.

    Returns
    -------
    The output of every block, each float [B, N, D].
    """
    outputs = []
    for block in blocks:
        x = cast(Tensor, checkpoint(block, x, *context, use_reentrant=False) if checkpointing else block(x, *context))
        outputs.append(x)
    return outputs
