"""The folder of a bank for which the user has given none."""

from __future__ import annotations

import glob
import hashlib
from pathlib import Path

from otoscope.bank.errors import BankError
from otoscope.bank.identity import whole_dataset
from otoscope.bank.manifest import Manifest, bank_exists
from otoscope.datasets import Dataset
from otoscope.encoders import Encoder
from otoscope.warning import warn


def folder_beside(path: Path, encoder: Encoder, dataset: Dataset) -> Path:
    """Choose the folder of a bank: a given one, or one beside it if that has the bank of another encoder or data set.

    A checkpoint that was replaced by another one therefore gets a bank of its own, and the former bank stays as it is.

    Parameters
    ----------
    path : the folder that is used unless it has another bank.
    encoder : the encoder, with its weights.
    dataset : the data set; for a single fold, the bank has the clips of all folds.

    Returns
    -------
    `path`, or a folder beside it whose name ends with a digest of the identities of encoder and data set.

    Examples
    --------
    >>> from otoscope import datasets, encoders
    >>> folder_beside(Path("no-bank-yet"), encoders.create("tiny"), datasets.create("scenes", train=1)).name
    'no-bank-yet'
    """
    if not bank_exists(path) and not any(path.parent.glob(f"{glob.escape(path.name)}-*")):
        return path
    identities = (encoder.identity_digest, whole_dataset(dataset).identity_digest)
    beside = path.with_name(f"{path.name}-{hashlib.sha256(' '.join(identities).encode()).hexdigest()[:12]}")
    if bank_exists(beside):
        return beside
    if not bank_exists(path):
        return path
    try:
        stored = Manifest.read(path).identity
    except BankError:  # whoever opens the bank says what is wrong with it
        return path
    if (stored.encoder_identity, stored.dataset_identity) == identities:
        return path
    changed = "data set" if stored.encoder_identity == identities[0] else "encoder"
    warn(f"the bank at {path} is that of another {changed} of this name, and stays; this one gets a bank at {beside}")
    return beside
