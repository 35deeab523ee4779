"""The feature matrix of a logistic regression: standardised features, kept in memory or read in blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property, reduce

import torch
from torch import Tensor

MIN_VARIANCE = 1e-12
"""Principal axes with less than this fraction of the largest variance are treated as rounding errors and removed."""
MAX_BYTES_IN_MEMORY = 4 * 1024**3
"""Largest size of the standardised features at which they are kept in memory."""
BLOCK_BYTES = 64 * 1024**2
"""Size of the features that are standardised at once."""
_OUTER_ROWS = 128
"""Number of clips whose products are computed at once."""


class NotFiniteError(ValueError):
    """Features with values that are nan or infinite."""


class Design:
    """Standardised features, and the products that a solver needs.

    The problem is solved in the coordinates z [n, r] of the clips along their principal axes, because directions
    outside their span do not change the loss. Each coordinate has a rounding error relative to its own variance.
    Features that do not fit in memory, with at least as many clips as features, are an exception: the problem is then
    solved in the standardised features, block by block, and the principal axes are used for preconditioning. In all
    cases a product needs n min(n, D) multiplications for each class.

    Parameters
    ----------
    features : [N, D], any floating dtype; may be a memory-mapped file, which is read `block` rows at a time.
    rows : int64 [n]. The rows of `features` that are used; None for all.
    dtype : dtype of the computation. float64 reaches the default tolerance for all useful penalties.
    block : number of rows that are converted to `dtype` at once; None for blocks of `BLOCK_BYTES`.
    max_bytes : largest size of the standardised features at which they are kept in memory; None for
        `MAX_BYTES_IN_MEMORY`.
    device : where to compute; None for the device of `features`.

    Attributes
    ----------
    mean, scale : float [D]. Features are standardised by (x - mean) / scale; a constant feature becomes 0.
    width : number of coordinates of the solution, D or r.

    Raises
    ------
    ValueError : for features that are not [N, D], or for no rows.
    NotFiniteError : for values that are not finite.

    Examples
    --------
    >>> design = Design(torch.randn(5, 9, generator=torch.Generator().manual_seed(0)))
    >>> design.width, design.times(torch.zeros(4, 2, dtype=torch.float64)).shape
    (4, torch.Size([5, 2]))
    """

    def __init__(
        self,
        features: Tensor,
        *,
        rows: Tensor | None = None,
        dtype: torch.dtype = torch.float64,
        block: int | None = None,
        max_bytes: int | None = None,
        device: torch.device | None = None,
    ) -> None:
        n = len(features) if rows is None else len(rows)
        if features.ndim != 2 or not n:
            raise ValueError(f"features must be [N, D] with n >= 1 rows, found {n} rows of {list(features.shape)}")
        width = features.shape[1]
        self._features, self._rows, self._n, self._dtype = features, rows, n, dtype
        self._block = max(1, BLOCK_BYTES // (width * dtype.itemsize)) if block is None else block
        self.device = features.device if device is None else device
        self._standardised: list[Tensor] | None = None
        self._standardise(MAX_BYTES_IN_MEMORY if max_bytes is None else max_bytes)
        self._z: Tensor | None = None
        if n < width:
            values, vectors = _principal_axes(self._outer())
            self._z, self._axes_of_clips = vectors * values.sqrt(), vectors / values.sqrt()
        else:
            values, self._axes = _principal_axes(self._inner(), keep_all=self._standardised is None)
            if self._standardised is not None:
                self._z = torch.cat([x @ self._axes for x in self._standardised])
                self._standardised = None
        self._variances, self.width = values / n, len(values)

    def __len__(self) -> int:
        return self._n

    @property
    def rough_dtype(self) -> torch.dtype:
        """Dtype of products that need only a few digits: float32 for principal coordinates in memory."""
        return self.mean.dtype if self._z is None else torch.float32

    def times(self, weight: Tensor) -> Tensor:
        """Multiply the features [n, width] by weights [width, C], in the dtype of the weights; returns [n, C]."""
        if self._z is not None:
            return self._coordinates(weight.dtype) @ weight
        return torch.cat([x @ weight for x in self._blocks()])

    def transposed_times(self, clips: Tensor) -> Tensor:
        """Multiply the transposed features [width, n] by values of the clips [n, C]; returns [width, C]."""
        return self._coordinates(clips.dtype).T @ clips if self._z is not None else self._transposed(clips)

    def precondition(self, gradient: Tensor, curvature: Tensor, penalty: float) -> Tensor:
        """Divide a gradient [width, C] by the Hessian for a constant curvature [C] of the clips; returns [width, C]."""
        scaled = self._variances.to(curvature)[:, None] * curvature + penalty
        if self._z is not None:
            return gradient / scaled
        return self._axes @ ((self._axes.T @ gradient) / scaled)

    def restore(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Convert weights [width, C] and bias [C] to those for the features before standardisation, [D, C] and [C]."""
        if self._z is None:
            standardised = weight
        elif len(self) < len(self.mean):
            standardised = self._transposed(self._axes_of_clips @ weight)
        else:
            standardised = self._axes @ weight
        original = standardised / self.scale[:, None]
        return original, bias - self.mean @ original

    @cached_property
    def _rough_z(self) -> Tensor:
        assert self._z is not None
        return self._z.to(self.rough_dtype)

    def _coordinates(self, dtype: torch.dtype) -> Tensor:
        assert self._z is not None
        return self._z if dtype == self._z.dtype else self._rough_z

    def _standardise(self, max_bytes: int) -> None:
        total = torch.zeros(self._features.shape[1], dtype=self._dtype, device=self.device)
        square, largest = total.clone(), total.clone()
        for x in self._raw_blocks():
            total += x.sum(0)
            largest = torch.maximum(largest, x.abs().amax(0))
        self.mean = total / len(self)
        if not bool(self.mean.isfinite().all()):
            raise NotFiniteError("features must be finite, found NaN or infinite values")
        for x in self._raw_blocks():
            square += (x - self.mean).square().sum(0)
        spread = (square / len(self)).sqrt()
        constant = spread <= 1e-6 * largest
        self.scale = torch.where(constant, torch.ones_like(spread), spread)
        self._factor = torch.where(constant, torch.zeros_like(spread), 1 / self.scale)
        if len(self) * len(self.mean) * self._dtype.itemsize <= max_bytes:
            self._standardised = [(x - self.mean) * self._factor for x in self._raw_blocks()]

    def _raw_blocks(self) -> Iterator[Tensor]:
        for start in range(0, len(self), self._block):
            stop = start + self._block
            part = self._features[start:stop] if self._rows is None else self._features[self._rows[start:stop]]
            yield part.to(self.device, self._dtype)

    def _blocks(self) -> Iterator[Tensor]:
        if self._standardised is not None:
            yield from self._standardised
        else:
            yield from ((x - self.mean) * self._factor for x in self._raw_blocks())

    def _column_blocks(self) -> Iterator[Tensor]:
        """Some features of all clips at a time, [n, *]; as many values as in a block of rows."""
        columns = max(1, self._block * len(self.mean) // len(self))
        for start in range(0, len(self.mean), columns):
            part = slice(start, start + columns)
            x = self._features[:, part] if self._rows is None else self._features[:, part][self._rows]
            yield (x.to(self.device, self._dtype) - self.mean[part]) * self._factor[part]

    def _transposed(self, clips: Tensor) -> Tensor:
        parts = torch.split(clips, self._block)
        return _sum(x.T @ rows for x, rows in zip(self._blocks(), parts, strict=True))

    def _inner(self) -> Tensor:
        return _sum(x.T @ x for x in self._blocks())

    def _outer(self) -> Tensor:
        """Products of all pairs of clips, [n, n]; each pair of parts is computed once."""
        if self._standardised is None:
            return _sum(x @ x.T for x in self._column_blocks())
        parts = [part for x in self._standardised for part in torch.split(x, _OUTER_ROWS)]
        rows: list[list[Tensor]] = []
        for i, x in enumerate(parts):
            rows.append([rows[j][i].T for j in range(i)] + [x @ other.T for other in parts[i:]])
        return torch.cat([torch.cat(row, 1) for row in rows])


def _sum(parts: Iterable[Tensor]) -> Tensor:
    """The sum of tensors of one shape, at least one."""
    return reduce(torch.add, parts)


def _principal_axes(gram: Tensor, *, keep_all: bool = False) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and eigenvectors, largest first. Unless `keep_all`, eigenvalues near zero are removed."""
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    if keep_all:
        return values, vectors
    kept = values > values[0] * max(MIN_VARIANCE, len(gram) * torch.finfo(gram.dtype).eps)
    return values[kept], vectors[:, kept]
