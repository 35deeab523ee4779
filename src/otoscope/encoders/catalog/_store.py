"""Getting the weights of named encoders onto this machine: downloads from several sources, and conversion."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from otoscope.download import ChecksumError, DownloadError, fetch
from otoscope.encoders._digests import weights_digest
from otoscope.encoders.catalog._card import Source
from otoscope.encoders.catalog._checkpoint import (
    CheckpointError,
    Converted,
    check_tensors,
    converted_file,
    models_folder,
    write_converted,
)
from otoscope.encoders.catalog._hub_cache import cached_file
from otoscope.encoders.catalog._instructions import manual_steps
from otoscope.encoders.catalog._ported import Ported
from otoscope.files import locked_folder


@dataclass(frozen=True)
class Stored:
    """Weights of a named encoder in a file.

    Parameters
    ----------
    path : the file.
    body, head, unused : number of tensors of the encoder, of a classifier, and of others that are not kept.
    parameters : number of values of the tensors of the encoder.
    digest : `otoscope.encoders.weights_digest` of the tensors of the encoder.
    recorded : the digest on record in the card; "" for none.
    parts : `Converted.parts`.
    """

    path: Path
    body: int
    head: int
    unused: int
    parameters: int
    digest: str
    recorded: str
    parts: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """Whether the tensors are those on record, in words."""
        if not self.recorded:
            return "no digest is on record"
        return "equal to the one on record" if self.digest == self.recorded else f"NOT that on record, {self.recorded}"


def inspect_weights(cls: type[Ported], file: Path) -> tuple[Stored, Converted]:
    """Read the weights of an encoder and check that they are complete.

    Parameters
    ----------
    cls : the class of the encoder.
    file : a checkpoint as its authors published it, or a converted one.

    Returns
    -------
    The description of the file, and its tensors.

    Raises
    ------
    FileNotFoundError, CheckpointError : when there is no such file, or it does not contain the weights of the encoder.
    """
    converted = cls.read(file)
    check_tensors(cls.skeleton().body, converted.body, name=cls.name, file=file)
    stored = Stored(
        path=file,
        body=len(converted.body),
        head=len(converted.head),
        unused=len(converted.unused),
        parameters=sum(tensor.numel() for tensor in converted.body.values()),
        digest=weights_digest(converted.body.items()),
        recorded=cls.card.tensors,
        parts=converted.parts,
    )
    return stored, converted


def convert_weights(cls: type[Ported], file: Path, to: Path | None = None, *, overwrite: bool = False) -> Stored:
    """Convert a checkpoint to safetensors; a classifier is kept apart in the same file.

    Parameters
    ----------
    cls : the class of the encoder.
    file : a checkpoint as its authors published it.
    to : the file to write; None for the one in the models folder, where the encoder is found by its name.
    overwrite : whether weights that this file contains already are replaced.

    Returns
    -------
    The description of the written file.

    Raises
    ------
    FileExistsError : when the file to write exists already.
    FileNotFoundError, CheckpointError : as in `inspect_weights`.
    """
    target = to or converted_file(cls.name)
    with locked_folder(_downloads(cls)) if to is None else nullcontext():
        if target.exists() and not overwrite:
            raise FileExistsError(
                f"{target} exists already; --replace (overwrite=True in Python) replaces it by the weights in {file}, "
                "and --to FILE writes another file"
            )
        return _converted(cls, file, target, file.name)


def _downloads(cls: type[Ported]) -> Path:
    """The folder that a process locks while it writes the weights of an encoder into the models folder."""
    return models_folder() / ".downloads" / cls.name


def _converted(cls: type[Ported], file: Path, target: Path, source: str) -> Stored:
    """Convert a checkpoint, which comes from `source`."""
    stored, converted = inspect_weights(cls, file)
    write_converted(target, cls.name, converted, source=source)
    return replace(stored, path=target)


def get_weights(
    cls: type[Ported], *, offline: bool = False, progress: Callable[[str], None] = lambda _: None
) -> Stored:
    """Download the weights of an encoder from the first source that has them, and convert them.

    A file that the library huggingface_hub has downloaded before is used. A download that was interrupted is continued,
    and the downloaded file is removed when it has been converted. Where another process is getting the same weights,
    this one waits and uses the file of the other.

    Parameters
    ----------
    cls : the class of the encoder.
    offline : whether only files in the cache of huggingface_hub are used.
    progress : is called with one line for each attempt and its failure, and every ten seconds.

    Returns
    -------
    The description of the converted file in the models folder.

    Raises
    ------
    DownloadError : when no source can be used. The message says why, and what to put where.
    """
    with locked_folder(_downloads(cls), waiting=lambda: progress(f"waiting for a process that gets {cls.name!r}")):
        if (file := converted_file(cls.name)).is_file():
            return inspect_weights(cls, file)[0]
        return _from_first_source(cls, offline, progress)


def _from_first_source(cls: type[Ported], offline: bool, progress: Callable[[str], None]) -> Stored:
    """Get the weights from the first source that has them; the arguments are those of `get_weights`."""
    failures = []
    for source in cls.card.sources:
        cached = cached_file(source.url)
        if offline and cached is None:
            continue
        progress(f"downloading {source.url}" if cached is None else f"converting {cached}")
        try:
            return _get(cls, source, cached, progress)
        except (DownloadError, ChecksumError, CheckpointError) as error:
            failures.append(str(error))
            progress(f"  {error}")
    raise DownloadError(
        f"the weights of encoder {cls.name!r} are not on this machine{' and could not be downloaded' * (not offline)}\n"
        + "".join(f"- {reason}\n" for reason in failures)
        + manual_steps(cls.name, cls.card)
    )


def _get(cls: type[Ported], source: Source, cached: Path | None, progress: Callable[[str], None]) -> Stored:
    """Download and convert the file of one source, or convert the cached one; its tensors must be those on record."""
    address = hashlib.sha256(source.url.encode()).hexdigest()[:8]
    folder = models_folder() / ".downloads" / f"{cls.name}-{address}"
    file = cached or folder / source.name
    if cached is None:
        fetch(source.url, file, sha256=source.sha256, size=source.size, progress=progress)
    try:
        stored = _converted(cls, file, folder / "converted.safetensors", source.url)
        if cls.card.tensors not in ("", stored.digest):
            raise CheckpointError(f"{source.url} has other tensors ({stored.digest}) than those on record")
    except CheckpointError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    target = converted_file(cls.name)
    stored.path.replace(target)
    shutil.rmtree(folder)
    return replace(stored, path=target)
