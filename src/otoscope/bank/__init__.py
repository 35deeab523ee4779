"""Banks: the tokens of a data set, encoded once and stored in memory-mapped files.

    bank/manifest.json                   identity, task, clips per split
    bank/extraction.json                 how it was written, and where the time went
    bank/train/clips.json                ids, labels, events, groups
    bank/train/shard-00000.safetensors   x [n, L, T, F, D], mask [n, T], cls [n, L, D]

>>> import numpy as np, tempfile, torch
>>> from otoscope.datasets import Dataset
>>> from otoscope.encoders import Encoder, Features
>>> from otoscope.types import Clip, Task, Tokens, TokenShape
>>> class Loudness(Encoder):  # an encoder: ten tokens of width 1 per second
...     name, sample_rate, front_end_id = "loudness", 1000, "rms-100ms"
...     shape = TokenShape(layers=1, freq=1, dim=1, has_cls=False, frame_rate=10)
...     def front_end(self, batch):
...         blocks = batch.waves.unfold(1, 100, 100)
...         return Features(blocks, batch.lengths // 100)
...     def embed(self, features):
...         level = features.x.square().mean(2).sqrt()
...         return Tokens(level[:, None, :, None, None])
...     def depth_groups(self):
...         return []
>>> class Beeps(Dataset):  # a data set
...     name, digest, task, splits = "beeps", "1", Task(("beep",), "multi-label", "mAP"), ("train",)
...     def clips(self, split):
...         return [Clip(f"beep-{i}", lambda: np.ones(2000, np.float32), 1000, ("beep",), (), split) for i in range(3)]
>>> with tempfile.TemporaryDirectory() as folder:
...     bank = extract(Loudness(), Beeps(), f"{folder}/bank", progress=False)
...     train = bank.split("train")
...     train.ids, tuple(train.tokens([0, 2]).x.shape)
(('beep-0', 'beep-1', 'beep-2'), (2, 1, 20, 1, 1))
"""

from otoscope.bank._clip_encoder import kept_in_memory
from otoscope.bank._requirements import Requirements, requirements
from otoscope.bank._turns import take_turns
from otoscope.bank.errors import BankError, DamagedError, HeldOutError, IncompleteError, MismatchError
from otoscope.bank.extraction import Extraction
from otoscope.bank.identity import BankIdentity
from otoscope.bank.on_the_fly import OnTheFlyBank, encode_on_the_fly
from otoscope.bank.read import Bank
from otoscope.bank.size import BankSize, estimate_size
from otoscope.bank.split import BankSplit
from otoscope.bank.write import extract

open = Bank
"""Open the bank in a folder."""

__all__ = [
    "Bank",
    "BankError",
    "BankIdentity",
    "BankSize",
    "BankSplit",
    "DamagedError",
    "Extraction",
    "HeldOutError",
    "IncompleteError",
    "MismatchError",
    "OnTheFlyBank",
    "Requirements",
    "encode_on_the_fly",
    "estimate_size",
    "extract",
    "kept_in_memory",
    "open",
    "requirements",
    "take_turns",
]
