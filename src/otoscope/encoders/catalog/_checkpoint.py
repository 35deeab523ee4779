"""Reading weights that others have published, without executing their code, and storing them as safetensors."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from otoscope.files import cache_folder, replacing
from otoscope.printable import name_some

VARIABLE = "OTOSCOPE_MODELS"
"""The environment variable that names the folder of converted weights."""
HEAD = "head."
"""Prefix of the tensors of a classifier in a converted file."""
_NESTED = ("state_dict", "model_state_dict", "model", "module", "ema", "params", "model_ema", "state_dict_ema")
_FORMAT = "otoscope-encoder"

_some = partial(name_some, most=5, write=str)
"""Names the first of some tensors."""


class CheckpointError(ValueError):
    """A file with weights cannot be read, or does not belong to the encoder."""


class MissingWeightsError(FileNotFoundError):
    """The weights of an encoder are not on this machine. The message says how to get them."""


@dataclass(frozen=True)
class Converted:
    """The tensors of a published checkpoint, under the names of otoscope.

    Parameters
    ----------
    body : tensors of the encoder by name in its body.
    head : tensors of a classifier that the checkpoint contains, by name.
    unused : names of other tensors of the checkpoint, such as those of a decoder, that are known and not needed.
    classes : names or identifiers of the classes of the classifier, where the checkpoint has them.
    parts : where a checkpoint has several dictionaries of tensors, their names, that of the one that was read first.
    """

    body: dict[str, Tensor]
    head: dict[str, Tensor] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()


def models_folder() -> Path:
    """Return the folder of converted weights: the environment variable OTOSCOPE_MODELS, else one in the cache."""
    given = os.environ.get(VARIABLE)
    return Path(given).expanduser() if given else cache_folder() / "encoders"


def converted_file(name: str) -> Path:
    """Return the path of the converted weights of a named encoder, whether or not they are there."""
    return models_folder() / f"{name}.safetensors"


def read_checkpoint(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors of a checkpoint on the CPU. No code of the file is executed.

    Parameters
    ----------
    file : a safetensors file, or a file that `torch.save` wrote. Its tensors may be in a dictionary inside it, such as
        "state_dict" or "model".

    Returns
    -------
    The tensors by name, and the metadata: those of a safetensors file; of other files "classes", a JSON list of the
    classes in the `label_dict`, and "parts", a JSON list of the dictionaries of tensors, of which the first is read.

    Raises
    ------
    FileNotFoundError : when there is no such file.
    CheckpointError : when it is damaged, needs code that is not allowed, or contains no tensors.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no file with weights at {file}")
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    with file.open("rb") as opened:
        if opened.read(1) not in (b"P", b"\x80"):  # a ZIP archive, or a pickle
            raise CheckpointError(f"{file} is no file of torch.save, or is damaged; is it a page that asks to sign in?")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file} contains more than tensors{_named(error)} and would execute code when it is read; where you trust "
            "it, load it yourself and save its state_dict alone"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise CheckpointError(f"{file} is no file of torch.save, or is damaged: {error}") from error
    tensors = _flat(content)
    if not tensors:
        keys = f" of {_some(list(map(str, content)))}" if isinstance(content, Mapping) else ""
        raise CheckpointError(
            f"{file} contains no tensors; expected a state_dict, alone or as {', '.join(_NESTED)}, found "
            f"{type(content).__name__}{keys}"
        )
    return tensors, _classes(content) | _parts(content)


def _named(error: pickle.UnpicklingError) -> str:
    """The class or function that a checkpoint would execute, in parentheses, where the error of torch names it."""
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f" ({found[1]})" if found else ""


def _parts(content: Mapping[str, Any]) -> dict[str, str]:
    """The names of the dictionaries of tensors in a checkpoint with several, such as "model" and "ema"."""
    present = [key for key in _NESTED if isinstance(content.get(key), Mapping) and _flat(content[key])]
    return {"parts": json.dumps(present)} if len(present) > 1 else {}


def _classes(content: Any) -> dict[str, str]:
    """The classes that a checkpoint names by their numbers, as metadata."""
    labels = content.get("label_dict") if isinstance(content, Mapping) else None
    if not isinstance(labels, Mapping) or set(labels) != set(range(len(labels))):
        return {}
    return {"classes": json.dumps([str(labels[number]) for number in range(len(labels))])}


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(file, "pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{file} is no safetensors file, or is damaged: {error}") from error


def _flat(content: Any) -> dict[str, Tensor]:
    """The tensors of the innermost dictionary of names and tensors."""
    if not isinstance(content, Mapping):
        return {}
    for key in _NESTED:
        if isinstance(content.get(key), Mapping) and (inner := _flat(content[key])):
            return inner
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def is_converted(metadata: Mapping[str, str]) -> bool:
    """Whether the metadata of a safetensors file say that `write_converted` wrote it."""
    return metadata.get("format") == _FORMAT


def from_converted(tensors: Mapping[str, Tensor]) -> Converted:
    """Separate the tensors that `write_converted` wrote into those of the body and those of a classifier."""
    head = {name.removeprefix(HEAD): value for name, value in tensors.items() if name.startswith(HEAD)}
    return Converted({name: value for name, value in tensors.items() if not name.startswith(HEAD)}, head)


def write_converted(path: Path, name: str, converted: Converted, *, source: str) -> None:
    """Store converted weights as safetensors, atomically.

    Parameters
    ----------
    path : the file.
    name : registered name of the encoder.
    converted : the tensors; those of a classifier are stored with the prefix "head.".
    source : where the weights come from, for the metadata.
    """
    tensors = converted.body | {f"{HEAD}{key}": value for key, value in converted.head.items()}
    metadata = {"format": _FORMAT, "encoder": name, "source": source}
    metadata |= {"classes": json.dumps(converted.classes)} if converted.classes else {}
    with replacing(path) as temporary:
        save_file({key: value.contiguous().clone() for key, value in tensors.items()}, temporary, metadata)


def fill(body: nn.Module, tensors: Mapping[str, Tensor], *, name: str, file: str | os.PathLike[str]) -> None:
    """Set the weights of a body; parameters and errors as in `check_tensors`."""
    check_tensors(body, tensors, name=name, file=file)
    expected = body.state_dict()
    body.load_state_dict({key: value.to(expected[key].dtype) for key, value in tensors.items()})


def without_prefix(tensors: Mapping[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    """Remove the first of some prefixes that the name of a tensor has.

    >>> without_prefix({"model.norm.bias": torch.zeros(1)}, "module.", "model.").keys()
    dict_keys(['norm.bias'])
    """
    short = {}
    for name, value in tensors.items():
        prefix = next((p for p in prefixes if name.startswith(p)), "")
        short[name.removeprefix(prefix)] = value
    return short


def unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove what DistributedDataParallel and `torch.compile` add to the names of tensors.

    >>> unwrapped({"module._orig_mod.norm.bias": torch.zeros(1)}).keys()
    dict_keys(['norm.bias'])
    """
    names = {name: name.replace("_orig_mod.", "") for name in tensors}
    wrapped = all(name.startswith("module.") for name in names.values())
    return {name.removeprefix("module.") if wrapped else name: tensors[full] for full, name in names.items()}


def shared_prefix(names: Iterable[str]) -> str:
    """Return the parts, up to a dot, with which all of some names begin.

    >>> shared_prefix(["model.norm.bias", "model.norm.weight", "model.blocks.0"])
    'model.'
    """
    common = os.path.commonprefix(list(names))  # noqa: RUF071 - names, not paths
    return common[: common.rfind(".") + 1]


def take(tensors: dict[str, Tensor], prefixes: Iterable[str]) -> dict[str, Tensor]:
    """Remove the tensors whose names start with one of some prefixes, and return them."""
    names = [name for name in tensors if name.startswith(tuple(prefixes))]
    return {name: tensors.pop(name) for name in names}


def check_classifier(name: str, head: Mapping[str, Tensor], *, fine_tuned: bool) -> None:
    """Check that a published checkpoint has a classifier if it is a fine-tuned one, and none if it is not.

    Parameters
    ----------
    name : name of the encoder, for messages.
    head : tensors of a classifier in the checkpoint.
    fine_tuned : whether the encoder is fine-tuned.

    Raises
    ------
    CheckpointError : for a fine-tuned checkpoint where a self-supervised one is expected, and the other way round.
    """
    if bool(head) != fine_tuned:
        raise CheckpointError(
            f"encoder {name!r} is {'fine-tuned' if fine_tuned else 'self-supervised'}, but the checkpoint "
            f"has {'a' if head else 'no'} classifier; `otoscope encoders show {name}` says which file is needed"
        )


def check_tensors(body: nn.Module, tensors: Mapping[str, Tensor], *, name: str, file: str | os.PathLike[str]) -> None:
    """Check that tensors are the weights of a body.

    Parameters
    ----------
    body : the module; it may be on the device "meta".
    tensors : a tensor for each of its weights and persistent buffers.
    name : name of the encoder, for messages.
    file : where the tensors come from, for messages.

    Raises
    ------
    CheckpointError : when tensors are missing, unexpected, of another shape, or not finite. The message names them.
    """
    expected = body.state_dict()
    missing, unexpected = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    shapes = [
        f"{key} is {list(tensors[key].shape)} instead of {list(value.shape)}"
        for key, value in expected.items()
        if key in tensors and tensors[key].shape != value.shape
    ]
    problems = [f"missing: {_some(missing)}"] * bool(missing) + [f"unexpected: {_some(unexpected)}"] * bool(unexpected)
    problems += [f"other shapes: {_some(shapes)}"] * bool(shapes)
    whole = [
        key
        for key, value in expected.items()
        if key in tensors and value.is_floating_point() and not tensors[key].is_floating_point()
    ]
    problems += [f"whole numbers: {_some(whole)}"] * bool(whole)
    if problems:
        raise CheckpointError(
            f"{file} does not contain the weights of encoder {name!r}; {'; '.join(problems)}. Is it the checkpoint of "
            f"another model? `otoscope encoders show {name}` says which file is needed"
        )
    bad = [key for key, value in tensors.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if bad:
        raise CheckpointError(f"{file}: weights are not finite: {_some(bad)}; the file is damaged, get it again")
