"""Opening Optuna and its databases. Optuna is optional: it is imported when it is first needed."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otoscope.search.base import MissingExtraError, Storage

if TYPE_CHECKING:
    import optuna

_SQLITE = "sqlite:///"
_ATTEMPTS = 5


def database_url(storage: Storage) -> str:
    """The URL of the database that keeps the trials: the one that was given, or an SQLite file in the folder.

    >>> database_url(Storage(folder=Path("runs"), name="a"))
    'sqlite:///runs/search.db'
    """
    return storage.database or f"{_SQLITE}{storage.folder / 'search.db'}"


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite URL; None for a database on a server."""
    return Path(url.removeprefix(_SQLITE)) if url.startswith(_SQLITE) else None


@cache
def open_database(url: str) -> optuna.storages.RDBStorage:
    """Open a database of trials, once per process.

    A writer waits up to a minute for another writer of an SQLite file. A connection to a server is tested before it is
    used again, because hours may pass between two batches. When several processes find an empty database at the same
    time, one creates the tables; the attempts of the others fail, and they open the database again.

    Parameters
    ----------
    url : a URL that Optuna accepts.

    Returns
    -------
    The storage.

    Raises
    ------
    ConnectionError : when the database cannot be opened.
    MissingExtraError : when Optuna is not installed.
    """
    create = import_optuna().storages.RDBStorage
    from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

    options = {"connect_args": {"timeout": 60}} if url.startswith(_SQLITE) else {"pool_pre_ping": True}
    for attempt in range(_ATTEMPTS):
        try:
            storage: optuna.storages.RDBStorage = create(url, engine_kwargs=options)
            return storage
        except (IntegrityError, ProgrammingError) as error:
            last_error: Exception = error
            time.sleep(0.1 * 2**attempt)
        except SQLAlchemyError as error:
            last_error = error
            break
    raise ConnectionError(
        f"the database of trials cannot be opened: {str(last_error).splitlines()[0]}; give the URL of a database that "
        "Optuna accepts and that this machine can reach, such as sqlite:///search.db or "
        "postgresql+psycopg2://user@host/name"
    ) from last_error


def import_optuna() -> Any:
    """The module `optuna`, imported when it is first needed; `MissingExtraError` where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError(
            "the search 'tpe' needs Optuna, which is not installed: "
            "pip install \"otoscope[search]\", or choose the search 'sobol'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
