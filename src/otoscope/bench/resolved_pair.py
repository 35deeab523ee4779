"""An encoder and a data set of a suite that exist on this machine, with their bank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from otoscope import bank as banks
from otoscope import datasets, encoders
from otoscope.bank import Bank, BankError, BankIdentity
from otoscope.bench.cost import PairSize
from otoscope.bench.specs import DatasetSpec, EncoderSpec
from otoscope.datasets import Dataset, Fold
from otoscope.encoders import Encoder
from otoscope.sampling import MixupSet, TrainingSet


@dataclass(frozen=True)
class ResolvedPair:
    """An encoder and a data set that exist on this machine.

    Parameters
    ----------
    encoder, dataset : the specifications from which they are created.
    fold : fold of the data set; None for a data set without folds.
    identity : identity of the bank.
    size : size of the encoder and of the data set.
    path : folder of the bank.
    task : kind of the task of the data set.
    control : True for an encoder with random weights.
    views : folder of the bank with the views of each few-shot draw; empty without views.
    remarks : `Dataset.remarks`.
    stored : whether the tokens are stored; False to encode clips on the fly, without a bank.
    """

    encoder: EncoderSpec
    dataset: DatasetSpec
    fold: Fold
    identity: BankIdentity
    size: PairSize
    path: Path
    task: Literal["multi-label", "multi-class"]
    control: bool
    views: Mapping[int, Path] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    stored: bool = True

    @property
    def control_of(self) -> str | None:
        """Label of the encoder whose control this one is; None for an encoder that is no control."""
        return self.encoder.control_of if self.control else None

    def extract(self, *, device: str | None = None, progress: bool = False) -> Bank:
        """Encode the data set into the bank, unless the bank is complete.

        Parameters
        ----------
        device : where the encoder runs; None for the CPU.
        progress : whether to show a progress bar.

        Returns
        -------
        The bank.
        """
        try:
            bank = self.open_bank()
        except BankError:
            bank = None
        if bank is not None and bank.identity == self.identity:
            return bank
        encoder = self.create_encoder().to(device or "cpu")
        arguments = self.identity.arguments | {"allow_shared": self.dataset.allow_shared}
        return banks.extract(encoder, self.create_dataset(), self.path, **arguments, progress=progress)

    def open_bank(self, *, device: str | None = None, progress: bool = False) -> Bank:
        """The complete bank, with the splits of this fold; raises as `otoscope.bank.open` does.

        Without stored tokens, it is the result of `otoscope.bank.encode_on_the_fly`; the arguments are as in `extract`.
        """
        if not self.stored:
            return self._encode_on_the_fly(self.create_dataset(), device, progress)
        bank = banks.open(self.path)
        return bank.fold(self.fold) if bank.folds else bank

    def open_views(self, draw: int, *, device: str | None = None, progress: bool = False) -> Bank:
        """The complete bank with the clips and views of a few-shot draw; the arguments are as in `extract_views`."""
        if not self.stored:
            return self._encode_on_the_fly(MixupSet(self.create_training_set(draw)), device, progress)
        return banks.open(self.views[draw])

    def _encode_on_the_fly(self, dataset: Dataset, device: str | None, progress: bool) -> Bank:
        encoder = self.create_encoder().to(device or "cpu")
        shared, storage = self.dataset.allow_shared, self.identity.storage
        return banks.encode_on_the_fly(encoder, dataset, **storage, progress=progress, allow_shared=shared)

    def extract_views(self, draw: int, *, device: str | None = None, progress: bool = False) -> Bank:
        """Encode the clips and views of a few-shot draw into their bank, unless that bank is complete.

        Parameters
        ----------
        draw : number of the draw.
        device, progress : as in `extract`.

        Returns
        -------
        The bank.
        """
        encoder, views = self.create_encoder().to(device or "cpu"), MixupSet(self.create_training_set(draw))
        return banks.extract(encoder, views, self.views[draw], **self.identity.storage, progress=progress)

    def create_encoder(self) -> Encoder:
        """The encoder with its weights."""
        return encoders.create(self.encoder.name, **self.encoder.options)

    def create_dataset(self) -> Dataset:
        """The data set of this fold."""
        return datasets.create(self.dataset.name, **self.dataset.options_of_fold(self.fold))

    def create_training_set(self, draw: int) -> TrainingSet:
        """The data set with the splits that training reads in a few-shot draw."""
        cut, spec = "validation" not in self.size.clips, self.dataset
        return TrainingSet(self.create_dataset(), cut=cut, shots=spec.shots, draw=draw, views=spec.views)
