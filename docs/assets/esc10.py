"""ESC-10 (Piczak 2015): 400 clips of 5 s, 10 classes, 5 folds; https://github.com/karoldvl/ESC-10, commit 553c8f1."""

import hashlib
from functools import cache
from pathlib import Path

from otoscope.audio.decode import decode
from otoscope.datasets import Dataset, register
from otoscope.types import Clip, Task


@cache
def _digest(folder: str) -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(folder).glob("*/*.ogg")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


@register("esc10")
class Esc10(Dataset):
    """Fold `fold` is the test split, the next one the validation split, the other three the train split."""

    def __init__(self, *, path: str, fold: int = 1) -> None:
        self.folder, self.fold = Path(path), fold
        self.paths = sorted(self.folder.glob("*/*.ogg"))
        names = sorted({p.parent.name for p in self.paths})
        self.task = Task(tuple(name.split(" - ")[1] for name in names), "multi-class", "accuracy")

    @property
    def digest(self) -> str:
        return f"{_digest(str(self.folder))}-fold{self.fold}"

    def clips(self, split):
        validation = self.fold % 5 + 1
        folds = {"test": {self.fold}, "validation": {validation}, "train": set(range(1, 6)) - {self.fold, validation}}
        if split not in folds:
            raise ValueError(f"unknown split {split!r}; known: {self.splits}")
        rate = 44100
        return [
            Clip(
                f"{p.parent.name.split(' - ')[0]}-{p.stem}",
                lambda p=p: decode(p)[0],
                rate,
                (p.parent.name.split(" - ")[1],),
                (),
                split,
            )
            for p in self.paths
            if int(p.name[0]) in folds[split]
        ]
