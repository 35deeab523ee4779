"""Where data sets are on this machine: a root folder by option, environment variable or configuration file."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from otoscope.datasets.catalog._declaration import Declaration

VARIABLE = "OTOSCOPE_DATA"
"""The environment variable that names the folder of all data sets."""


def config_file() -> Path:
    """The configuration file of the user: $XDG_CONFIG_HOME/otoscope/config.toml."""
    given = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".config") / "otoscope" / "config.toml"


def data_root(root: str | os.PathLike[str] | None = None) -> tuple[Path | None, str]:
    """Find the root folder of data sets.

    Parameters
    ----------
    root : a folder that was given as an option. Otherwise the environment variable OTOSCOPE_DATA counts, and then the
        key `root` in the section `data` of the configuration file.

    Returns
    -------
    path : the folder; None where none is set.
    source : where it was set, for messages.

    Raises
    ------
    ValueError : when the configuration file is not valid.
    """
    if root is not None:
        return Path(root).expanduser(), "option root"
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE]).expanduser(), VARIABLE
    file = config_file()
    if not file.is_file():
        return None, ""
    try:
        section = tomllib.loads(file.read_text(encoding="utf-8")).get("data", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not valid TOML: {error}") from error
    configured = section.get("root") if isinstance(section, dict) else None
    if configured is not None and not isinstance(configured, str):
        raise ValueError(f"{file}: root in the section data must be the path of a folder, found {configured!r}")
    return (Path(configured).expanduser(), str(file)) if configured else (None, "")


class MissingFilesError(FileNotFoundError):
    """The files of a named data set are not on this machine. The message says what to put where."""


def is_here(name: str, declaration: Declaration, root: str | os.PathLike[str] | None = None) -> bool:
    """Whether `find_folder` finds the folder of a data set; the arguments are the same."""
    try:
        find_folder(name, declaration, root)
    except MissingFilesError:
        return False
    return True


def find_folder(name: str, declaration: Declaration, root: str | os.PathLike[str] | None = None) -> Path:
    """Find the folder of a named data set.

    Parameters
    ----------
    name : registered name.
    declaration : what is declared about it.
    root : the folder of all data sets, or the folder of this one; None as in `data_root`.

    Returns
    -------
    The folder that contains a marker of the declaration.

    Raises
    ------
    MissingFilesError : when there is none.
    """
    base, source = data_root(root)
    if base is not None:
        for folder in (*(base / folder for folder in declaration.folders), base):
            if any((folder / marker).exists() for marker in declaration.markers):
                return folder
    where = f"in {base} ({source})" if base else f"in a data folder; set {VARIABLE}=FOLDER, or give root=FOLDER"
    raise MissingFilesError(
        f"the files of data set {name!r} are missing: put {declaration.needed} {where}; "
        f"`otoscope data get {name}` says where they come from"
    )
