"""A bank that several processes write together: each writes other shards, and the bank is complete when all exist.

The bytes are those that `otoscope.bank.extract` writes with the same size of batches and the same number of threads.
Who writes which shard is decided elsewhere, for example by the claims of `otoscope.bench.units`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from otoscope.bank._encode import FrozenEncoder, check_repeatable
from otoscope.bank._folder import check_free_space, delete_partial_shard, shared, write_clips
from otoscope.bank._mirror import missing_shards
from otoscope.bank._pipeline import Loading, Shard, write_shards
from otoscope.bank.extraction import Extraction
from otoscope.bank.identity import BankIdentity, whole_dataset
from otoscope.bank.manifest import Manifest, bank_exists, check_identity
from otoscope.bank.size import BankSize
from otoscope.datasets import Dataset
from otoscope.datasets.checks import checked_clips
from otoscope.encoders import Encoder
from otoscope.remote import Mirror, local_folder
from otoscope.types import Clip, Tokens

__all__ = ["BankParts", "Loading"]


@dataclass(frozen=True)
class BankParts:
    """A bank whose shards are written in any order, by any number of processes.

    Parameters
    ----------
    path : Path. The folder.
    encoder : Encoder. The frozen encoder; it runs on the device of its weights.
    dataset : Dataset. The data set.
    manifest : Manifest. What the folder will contain.
    clips : mapping. The clips of each split.

    Examples
    --------
    >>> import tempfile
    >>> from otoscope import datasets, encoders
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     data = datasets.create("scenes", train=2, validation=2, test=2)
    ...     parts = BankParts.of(encoders.create("tiny", weights="random"), data, f"{folder}/bank", shard_clips=2)
    ...     print("begun:", parts.begin())
    ...     parts.missing()
    begun: True
    ['train/shard-00000.safetensors', 'validation/shard-00000.safetensors', 'test/shard-00000.safetensors']
    """

    path: Path
    encoder: Encoder
    dataset: Dataset
    manifest: Manifest
    clips: Mapping[str, Sequence[Clip]] = field(repr=False)

    @classmethod
    def of(
        cls,
        encoder: Encoder,
        dataset: Dataset,
        path: str | Path,
        *,
        allow_shared: bool = False,
        **stored: Any,
    ) -> BankParts:
        """Describe the bank that `extract` writes when called with the same arguments. Nothing is written.

        Parameters
        ----------
        encoder, dataset, path, allow_shared : as for `extract`.
        stored : splits, layers, content, dtype and shard_clips, as for `extract`.

        Raises
        ------
        DataError : when the data set cannot be measured (`otoscope.datasets.checks`).
        UnknownNameError, ValueError : as `BankIdentity.of`.
        """
        dataset = whole_dataset(dataset)
        identity = BankIdentity.of(encoder, dataset, **stored)
        clips = checked_clips(dataset, identity.splits, allow_shared=allow_shared)
        return cls(local_folder(path), encoder, dataset, Manifest.of(identity, encoder, dataset, clips), clips)

    @property
    def identity(self) -> BankIdentity:
        """Everything that decides the tokens of the bank."""
        return self.manifest.identity

    @property
    def shards(self) -> dict[str, tuple[str, range]]:
        """For each shard, its split and the rows of its clips."""
        return {
            name: (split, rows) for split in self.identity.splits for name, rows in self.manifest.shards(split).items()
        }

    def size(self) -> BankSize:
        """The estimated size of the bank (`BankSize.estimate`)."""
        return BankSize.estimate(self.encoder, self.clips, self.identity)

    def encode(self, clip: Clip) -> Tokens:
        """Encode one clip by itself.

        Parameters
        ----------
        clip : the clip.

        Returns
        -------
        Its tokens on the CPU, with the layers of the bank.
        """
        frozen = FrozenEncoder(self.encoder)
        return frozen.encode([clip], [frozen.load(clip)], self.identity.layers)

    def begin(self, *, stop: Callable[[], bool] = lambda: False, waiting: Callable[[], object] = lambda: None) -> bool:
        """Write the files that every bank has: `manifest.json`, and `clips.json` of each split.

        Parameters
        ----------
        stop : called while another process extracts the whole bank; if it returns True, nothing is written.
        waiting : called once before a wait for such a process.

        Returns
        -------
        bool. Whether the files are there.

        Raises
        ------
        MismatchError : when the folder contains a bank with another identity.
        BankError : when the folder contains something else, or when the encoder gives other tokens for the first clips
            when it encodes them again.
        """
        check_repeatable(self.encoder, self.clips[self.identity.splits[0]])
        with shared(self.path, stop, waiting) as is_locked:
            if is_locked:
                self._write_index(self.clips)
        return is_locked

    def _write_index(self, splits: Iterable[str]) -> None:
        """Write the manifest unless the folder has that of this bank, and `clips.json` of these splits."""
        if bank_exists(self.path):
            check_identity(self.path, self.identity, self.dataset)
        else:
            self.manifest.write(self.path)
        for split in splits:
            write_clips(self.path / split / "clips.json", self.clips[split], self.identity)

    def _write_index_again(self) -> None:
        """Write the files that `begin` has written, if the folder was deleted in the meantime.

        Raises
        ------
        MismatchError, BankError : as `begin`, when the folder contains something else now.
        """
        if Mirror.of(self.path) is None:
            self._write_index([split for split in self.clips if not (self.path / split / "clips.json").exists()])

    def missing(self, names: Iterable[str] | None = None) -> list[str]:
        """The shards that are missing or incomplete.

        Parameters
        ----------
        names : paths of shards relative to the bank; None for all.
        """
        shards = self.shards
        clips = {name: len(shards[name][1]) for name in (shards if names is None else names)}
        return missing_shards(self.path, clips, self.identity)

    def write(
        self,
        names: Sequence[str],
        loading: Loading,
        *,
        stop: Callable[[], bool] = lambda: False,
        waiting: Callable[[], object] = lambda: None,
        on_batch: Callable[[int], object] = lambda _: None,
    ) -> Extraction | None:
        """Encode and write the shards among `names` that are missing or incomplete.

        No other process may write these shards at the same time; an extraction of the whole bank waits.

        Parameters
        ----------
        names : paths of shards relative to the bank.
        loading : how clips go through the encoder.
        stop : called before each shard, and while another process extracts the whole bank; if it returns True, the
            remaining shards are not written.
        waiting : called once before a wait for such a process.
        on_batch : called after each batch with its number of clips.

        Returns
        -------
        What was done, and how long it took; None if no shard was missing, or `stop` ended a wait.

        Raises
        ------
        MismatchError, BankError : as `begin`, when the folder contains something else now.
        """
        shards = self.shards
        with shared(self.path, stop, waiting) as is_locked:
            missing = [
                Shard(name, [self.clips[shards[name][0]][row] for row in shards[name][1]])
                for name in (self.missing(names) if is_locked else ())
            ]
            if not missing:
                return None
            self._write_index_again()
            for shard in missing:
                delete_partial_shard(self.path / shard.name)
            return write_shards(
                self.path,
                missing,
                self.encoder,
                self.identity,
                loading,
                check_space=partial(check_free_space, self.path),
                on_batch=on_batch,
                stop=stop,
            )
