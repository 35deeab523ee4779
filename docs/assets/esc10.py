"""ESC-10 (Piczak 2015): 400 clips, 10 classes, 5 folds; https://github.com/karoldvl/ESC-10, commit 553c8f1."""

import hashlib
from functools import cache
from pathlib import Path

from otoscope.datasets import Dataset, register
from otoscope.types import Clip, Task

FOLDS = 5


@register("esc10-with-validation")
class Esc10(Dataset):
    """Fold `fold` is the test split, the next one the validation split, and the other three are the train split.

    Parameters
    ----------
    path : folder with one folder per class, such as "001 - Dog bark". Files are named "<fold>-<recording>-<take>.ogg".
    fold : the held-out fold, 1 to 5.
    """

    def __init__(self, *, path: str, fold: int = 1) -> None:
        self.folder, self.fold = path, fold
        self.files = sorted(Path(path).glob("*/*.ogg"))
        classes = tuple(dict.fromkeys(_label(file) for file in self.files))
        self.task = Task(classes, "multi-class", "accuracy")

    @property
    def digest(self) -> str:
        return f"{_digest(self.folder)}-fold{self.fold}"

    def clips(self, split):
        validation = self.fold % FOLDS + 1
        folds = {"test": {self.fold}, "validation": {validation}}
        folds["train"] = set(range(1, FOLDS + 1)) - {self.fold, validation}
        if split not in folds:
            raise ValueError(f"unknown split {split!r}; known: {self.splits}")
        return [_clip(file, split) for file in self.files if int(file.name[0]) in folds[split]]


def _clip(file, split):
    name = f"{file.parent.name.split(' - ')[0]}-{file.stem}"
    return Clip.from_file(file, [_label(file)], split, id=name)


def _label(file):
    return file.parent.name.split(" - ")[1]


@cache
def _digest(folder):
    digest = hashlib.sha256()
    for file in sorted(Path(folder).glob("*/*.ogg")):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
