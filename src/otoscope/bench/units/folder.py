"""The folder of a plan, which all processes that do its units share.

    plan.json       the layout: which banks, encoders, data sets and suite; everything that decides the output
    units.jsonl     one unit a line, with estimated minutes and memory
    claims/         what each process does now        failures/    units that failed, with the reason
    done/           markers of finished studies       canary/      tokens of three clips of each bank

Both files are written once and never changed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from otoscope.bank import BankIdentity
from otoscope.bank.parts import Loading
from otoscope.bench.units import unit as units
from otoscope.bench.units.unit import Unit
from otoscope.files import json_text, locked_folder, read_json, replacing
from otoscope.remote import Mirror, is_url, local_folder

VERSION = 2
"""Version of the files of a plan."""


class PlanError(ValueError):
    """A plan that cannot be read, or differs from what was requested or from what this machine has."""


@dataclass(frozen=True)
class BankLayout:
    """A bank of a plan.

    Parameters
    ----------
    path : folder of the bank, relative to that of the plan.
    encoder, encoder_options : name and options of the encoder.
    dataset, dataset_options : name and options of the data set.
    identity : everything that decides the tokens, as plain values (`BankIdentity`).
    allow_shared : whether the held-out split may have ids and audio files of other splits.
    batch_size, batch_seconds, compiled : how clips go through the encoder (`Loading`).
    unit_clips : clips of a unit, as requested; None for a number that follows from the clips of the bank.
    """

    path: str
    encoder: str
    encoder_options: Mapping[str, Any]
    dataset: str
    dataset_options: Mapping[str, Any]
    identity: Mapping[str, Any]
    allow_shared: bool
    batch_size: int
    batch_seconds: float
    compiled: bool
    unit_clips: int | None

    @property
    def stored(self) -> dict[str, Any]:
        """The arguments of `extract` that decide what is stored."""
        return {name: self.identity[name] for name in ("splits", "layers", "content", "dtype", "shard_clips")}

    def loading(self, workers: int | None, sharing: int = 1) -> Loading:
        """How clips go through the encoder, in one of `sharing` processes that decode in `workers` others each."""
        return Loading(self.batch_size, self.batch_seconds, workers, self.compiled, sharing)

    def check(self, identity: BankIdentity) -> None:
        """Check that this machine has the encoder and the data set of the plan.

        Raises
        ------
        PlanError : when something differs; the message names it.
        """
        here = json.loads(json_text(asdict(identity)))
        if differing := [name for name, value in self.identity.items() if here.get(name) != value]:
            raise PlanError(
                f"{self.dataset} by {self.encoder} differs from the plan in {', '.join(differing)}: the plan has "
                f"{self.identity[differing[0]]!r}, this machine {here.get(differing[0])!r}; use the same weights, data "
                "and version of otoscope on every machine, or make another plan"
            )


@dataclass(frozen=True)
class Layout:
    """Everything that decides the output of a plan. It is frozen when the plan is written.

    Parameters
    ----------
    banks : the banks.
    suite : the suite as JSON, with its name; None for an extraction.
    out : folder of the suite, relative to that of the plan.
    storage : database of trials; None for an SQLite file in `out`.
    """

    banks: tuple[BankLayout, ...]
    suite: Mapping[str, Any] | None = None
    out: str = "."
    storage: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The layout as plain values."""
        plain: dict[str, Any] = json.loads(json_text({"version": VERSION} | asdict(self)))
        return plain


@dataclass(frozen=True)
class PlanFolder:
    """A plan on disk.

    Parameters
    ----------
    path : its folder.
    layout : everything that decides the output.
    digest : sha256 of the file of units.
    """

    path: Path
    layout: Layout
    digest: str = field(repr=False)

    @classmethod
    def create(cls, path: str | Path, layout: Layout, planned: Sequence[Unit]) -> PlanFolder:
        """Write a plan, unless the folder contains one with the same layout, which is kept with its units.

        Raises
        ------
        PlanError : when the folder contains a plan with another layout, or something else.
        """
        path, contents = Path(path), layout.to_json()
        if path.exists() and not path.is_dir():
            raise PlanError(f"{path} is a file, and a plan is a folder: give another path")
        with locked_folder(path):  # the same command may run twice
            if (path / "plan.json").exists():
                existing = cls.read(path)
                _check_same(path, existing.layout.to_json(), contents)
                return existing
            if any(entry.suffix != ".jsonl" and entry.name[0] != "." for entry in path.iterdir()):
                raise PlanError(f"{path} is not empty and has no plan.json, so it is not a plan: give another folder")
            text = "".join(json_text(units.to_json(unit), indent=None) + "\n" for unit in planned)
            with replacing(path / "units.jsonl") as temporary:
                temporary.write_text(text, encoding="utf-8")
            digest = hashlib.sha256(text.encode()).hexdigest()
            with replacing(path / "plan.json") as temporary:
                temporary.write_text(json_text(contents | {"units_digest": digest}) + "\n", encoding="utf-8")
            return cls(path, layout, digest)

    @classmethod
    def read(cls, path: str | Path) -> PlanFolder:
        """Read the plan in a folder.

        Raises
        ------
        PlanError : when there is none, or it is damaged or of another version.
        """
        path = Path(path)
        file = path / "plan.json"
        if not file.exists():
            raise PlanError(f"no plan at {path}: there is no plan.json; write one with `otoscope plan`")
        try:
            stored = read_json(file)
            version, digest = stored.pop("version"), stored.pop("units_digest")
            if version != VERSION:
                raise PlanError(f"{file} has version {version}, this otoscope reads version {VERSION}; plan again")
            banks = tuple(BankLayout(**bank) for bank in stored.pop("banks"))
            return cls(path, Layout(banks, **stored), digest)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if isinstance(error, PlanError):
                raise
            raise PlanError(f"{file} is damaged ({error!r}); delete the folder and plan again") from error

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """All units, by number.

        Raises
        ------
        PlanError : when the file of units differs from what was written.
        """
        file = self.path / "units.jsonl"
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            content = b""
        if hashlib.sha256(content).hexdigest() != self.digest:
            raise PlanError(f"{file} differs from what was written; delete the folder and plan again")
        return tuple(units.from_json(json.loads(line)) for line in content.splitlines())

    def bank_path(self, number: int) -> Path:
        """The folder of a bank."""
        stored = self.layout.banks[number].path
        return local_folder(stored) if is_url(stored) else Path(os.path.normpath(self.path / stored))

    @property
    def out(self) -> Path:
        """The folder of the suite."""
        return Path(os.path.normpath(self.path / self.layout.out))

    @property
    def claims(self) -> Path:
        """The folder of claims."""
        return self.path / "claims"

    def marker(self, number: int) -> Path:
        """The file that says that a unit of a suite is done."""
        return self.path / "done" / f"{number}.json"

    def failure(self, number: int) -> Path:
        """The file that says why a unit failed."""
        return self.path / "failures" / f"{number}.json"

    def failures(self) -> dict[int, dict[str, str]]:
        """The units that failed, with "error", "traceback", "machine" and "date"."""
        return dict(self._numbered("failures"))

    def forget_failures(self) -> None:
        """Delete the failures, so that these units are done again."""
        for number, _ in self._numbered("failures"):
            self.failure(number).unlink(missing_ok=True)

    def markers(self) -> dict[int, dict[str, Any]]:
        """The units of a suite that are done, with their "records"."""
        return dict(self._numbered("done"))

    def _numbered(self, folder: str) -> Iterator[tuple[int, Any]]:
        for file in sorted((self.path / folder).glob("*.json")):
            if file.stem.isdecimal():
                try:
                    yield int(file.stem), read_json(file)
                except (ValueError, FileNotFoundError):
                    continue


def relative(path: Path, folder: Path) -> str:
    """A path relative to the folder of a plan, so that both can be found under another name on another machine.

    That of a mirror is its URL, unless the plan is in a mirror as well.
    """
    if (mirror := Mirror.of(path)) and Mirror.of(folder) is None:
        return mirror.url
    return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()


def with_absolute_paths(options: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Options in which relative paths of existing files are absolute, because workers have other working directories.

    Parameters
    ----------
    options : options of an encoder or a data set.
    names : options that may be paths (`provenance`).
    """
    paths = {
        name: str(Path(options[name]).absolute())
        for name in names
        if isinstance(options.get(name), str) and Path(options[name]).exists()
    }
    return {**options, **paths}


def _check_same(path: Path, stored: dict[str, Any], requested: dict[str, Any]) -> None:
    """Raise `PlanError` unless two layouts are equal; the message names the first differences."""
    kinds = ["a suite" if layout.get("suite") else "an extraction" for layout in (stored, requested)]
    if kinds[0] != kinds[1]:
        raise PlanError(
            f"the plan at {path} is one of {kinds[0]}, requested is one of {kinds[1]}; give another folder, or delete "
            "this one"
        )
    differing = [f"{name} is {was!r}, requested {new!r}" for name, was, new in _differences(stored, requested)][:3]
    if differing:
        raise PlanError(
            f"the plan at {path} has another layout: {'; '.join(differing)}; give another folder, or delete this one"
        )


def _differences(stored: Any, requested: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The values that differ, with the names of the fields that lead to them."""
    if isinstance(stored, dict) and isinstance(requested, dict):
        for key in dict.fromkeys([*stored, *requested]):
            yield from _differences(stored.get(key), requested.get(key), f"{name}.{key}" if name else key)
    elif isinstance(stored, list) and isinstance(requested, list) and len(stored) == len(requested):
        for number, (was, new) in enumerate(zip(stored, requested, strict=True)):
            yield from _differences(was, new, f"{name}[{number}]")
    elif stored != requested:
        yield name, stored, requested
