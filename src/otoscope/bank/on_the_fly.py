"""A bank that stores no tokens: clips are encoded whenever they are requested, for data that is too large to keep.

Its identity, its splits, the order of its clips and the rounding of its tokens are those of the bank that `extract`
writes with the same arguments. Trainings on it have the same results, up to rounding errors of the encoder.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from torch import Tensor

from otoscope.bank._clip_encoder import ClipEncoder, EncodingReader
from otoscope.bank._clips import clips_to_encode
from otoscope.bank._compile import ANNOUNCEMENT
from otoscope.bank._encode import check_repeatable
from otoscope.bank._pipeline import Loading
from otoscope.bank._turns import current_turn
from otoscope.bank.errors import BankError
from otoscope.bank.extraction import Extraction
from otoscope.bank.identity import BankIdentity, Content, Layers, whole_dataset
from otoscope.bank.manifest import Manifest
from otoscope.bank.read import Bank
from otoscope.bank.size import BankSize
from otoscope.bank.split import BankSplit, ClipTable, as_float32
from otoscope.datasets import Dataset, OneFold
from otoscope.datasets.audio_report import reporting_audio
from otoscope.encoders import Encoder
from otoscope.results import Sampling
from otoscope.types import Clip, Tokens


class OnTheFlySplit(BankSplit):
    """Some clips of a bank that stores no tokens. `OnTheFlyBank.split` and `subset` create it."""

    _reader: EncodingReader

    @property
    def shared(self) -> bool:
        """See `BankSplit.shared`."""
        return current_turn() is not None

    @property
    def audio_seconds(self) -> float:
        """See `BankSplit.audio_seconds`; 0 as well where the tokens are kept in memory."""
        return 0.0 if self._reader.fits else self._reader.clip_seconds * len(self)

    @property
    def pass_seconds(self) -> float:
        """See `BankSplit.pass_seconds`."""
        return self.audio_seconds / self._reader.clip_encoder.speed

    @contextmanager
    def batches(
        self, index: Sequence[Sequence[int]], layers: Sequence[int] | None = None
    ) -> Iterator[Iterator[Tokens]]:
        """See `BankSplit.batches`. Loader workers decode the clips of later batches ahead of time."""
        chosen = self._chosen_layers(layers)
        with self._reader.reading(self._stored([self._rows(rows) for rows in index]), chosen) as tensors:
            yield map(as_float32, tensors)

    @contextmanager
    def _reading(self, batches: Sequence[Sequence[int]]) -> Iterator[Iterator[dict[str, Tensor]]]:
        with self._reader.reading(self._stored(batches)) as tensors:
            yield tensors

    def _stored(self, batches: Sequence[Sequence[int]]) -> list[list[int]]:
        """The rows of batches, among all clips that the reader encodes."""
        return [[self._stored_rows[row] for row in rows] for rows in batches]


class OnTheFlyBank(Bank):
    """A bank that stores no tokens; `encode_on_the_fly` creates it. It is read like a bank in a folder.

    Parameters
    ----------
    manifest : Manifest. What the manifest of the stored bank would be.
    clips : mapping. The clips of each split.
    size : BankSize. The estimated size of the stored bank.
    clip_encoder : ClipEncoder. What encodes the clips.
    progress : bool. Whether to report on silent, clipped and otherwise suspicious clips on stderr.
    """

    def __init__(
        self,
        manifest: Manifest,
        clips: Mapping[str, Sequence[Clip]],
        size: BankSize,
        clip_encoder: ClipEncoder,
        *,
        progress: bool,
    ) -> None:
        self.path = Path(f"({manifest.identity.dataset} by {manifest.identity.encoder}, not stored)")
        self._manifest, self._clips, self._size, self._progress = manifest, clips, size, progress
        self._clip_encoder = clip_encoder
        self._readers: dict[str, EncodingReader] = {}
        self._opened: dict[str, BankSplit] = {}
        self._replaced: Mapping[str, BankSplit] = {}
        self._sampling, self._fold = Sampling(), None

    @property
    def extractions(self) -> tuple[Extraction, ...]:
        """None, because nothing was written."""
        return ()

    @property
    def size(self) -> BankSize:
        """The size that a stored bank would have, estimated from a few clips of each split."""
        return self._size

    @property
    def underflowed(self) -> NoReturn:
        """Is not counted. A warning says so when tokens are rounded to zeros."""
        raise BankError(
            f"the tokens of {self.path} that are rounded to zeros are not counted, because it stores none; `extract` "
            "counts them"
        )

    def verify(self) -> None:
        """Does nothing, because there are no files."""

    def _open_stored(self, name: str) -> BankSplit:
        """Open a split; all folds share the reader."""
        if name not in self._opened:
            clips = self._clips[name]
            if name not in self._readers:
                with reporting_audio() as report:
                    self._readers[name] = EncodingReader(self.identity, clips, self._clip_encoder)
                if self._progress and report.faulty:
                    print(report, file=sys.stderr)
            table, reader = ClipTable.of(clips, self.task), self._readers[name]
            self._opened[name] = OnTheFlySplit(name, self.identity, self.task, table, reader, range(len(reader)))
        return self._opened[name]


def encode_on_the_fly(
    encoder: Encoder,
    dataset: Dataset,
    *,
    splits: Sequence[str] | None = None,
    layers: Layers = "last",
    content: Content = "tokens",
    dtype: str = "float16",
    batch_size: int = 16,
    batch_seconds: float = 320.0,
    shard_clips: int = 64,
    loader_workers: int | None = None,
    compile: bool = False,
    progress: bool = True,
    allow_shared: bool = False,
) -> OnTheFlyBank:
    """Read the tokens of a data set without storing them: clips are encoded whenever a training requests them.

    The result is read like the bank that `extract` writes with the same arguments, and has its identity. Every epoch
    encodes the train and the validation split again, except splits whose tokens take at most 2 GiB in this dtype: they
    are kept in memory. `otoscope.fit_together` trains several probes in one pass over the audio.

    Parameters
    ----------
    encoder, dataset, splits, layers, content, dtype : as for `extract`.
    batch_size, batch_seconds, loader_workers, compile, allow_shared : as for `extract`.
    shard_clips : int. As for `extract`; the clips of an epoch are shuffled as if they were in shards of this size.
    progress : bool. Whether to print the hours of audio and the measured speed of the encoder to stderr, and to show a
        progress bar for every pass over the audio.

    Returns
    -------
    OnTheFlyBank. For `fit`, `fit_many` and `evaluate`, in place of a bank.

    Raises
    ------
    DataError, AudioError, BankError, UnknownNameError, ValueError : as from `extract`. An error in the audio of a clip
        is raised when the clip is read.

    Examples
    --------
    >>> from otoscope import datasets, encoders
    >>> scenes = datasets.create("scenes", train=4)
    >>> bank = encode_on_the_fly(encoders.create("tiny"), scenes, splits=["train"], progress=False)
    >>> bank.split("train").tokens([0, 3]).x.shape
    torch.Size([2, 1, 64, 8, 192])
    """
    clips, whole = clips_to_encode(dataset, splits, allow_shared=allow_shared), whole_dataset(dataset)
    identity = BankIdentity.of(
        encoder, whole, splits=splits, layers=layers, content=content, dtype=dtype, shard_clips=shard_clips
    )
    first = clips[identity.splits[0]]
    check_repeatable(encoder, first)
    if progress and compile:
        print(ANNOUNCEMENT, file=sys.stderr)
    clip_encoder = ClipEncoder(encoder, Loading(batch_size, batch_seconds, loader_workers, compile), progress=progress)
    clip_encoder.measure(first[:batch_size], identity)
    if progress:
        print(
            f"{whole.name} by {encoder.name}, encoded on the fly: {sum(map(len, clips.values())):,} clips, "
            f"{clip_encoder.speed:.3g} s of audio encoded per second",
            file=sys.stderr,
        )
    manifest, size = Manifest.of(identity, encoder, whole, clips), BankSize.estimate(encoder, clips, identity)
    bank = OnTheFlyBank(manifest, clips, size, clip_encoder, progress=progress)
    return bank.fold(dataset.chosen_fold) if isinstance(dataset, OneFold) else bank
