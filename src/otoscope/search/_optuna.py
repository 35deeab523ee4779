"""Opening Optuna and its storages. Optuna is optional: it is imported when it is first needed."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otoscope.search._network_disk import network_file_system
from otoscope.search.base import MissingExtraError, Storage

if TYPE_CHECKING:
    import optuna
    import sqlalchemy

_SQLITE, _JOURNAL = "sqlite:///", "journal:"
_ATTEMPTS = 8
_LOCK_SECONDS = 60
"""How long a writer waits for another writer of an SQLite file."""


def database_file(storage: Storage) -> Path | None:
    """The SQLite file or the journal file that keeps the trials; None for a database on a server.

    >>> database_file(Storage(folder=Path("runs"), name="a")).as_posix()
    'runs/search.db'
    >>> database_file(Storage(folder=Path("runs"), name="a", database="journal:/net/search.log")).as_posix()
    '/net/search.log'
    """
    if storage.database is None:
        return storage.folder / "search.db"
    if storage.database.startswith(_SQLITE):
        return Path(storage.database.removeprefix(_SQLITE).partition("?")[0])
    return Path(storage.database.removeprefix(_JOURNAL)) if storage.database.startswith(_JOURNAL) else None


def open_database(storage: Storage) -> optuna.storages.BaseStorage:
    """Open a database of trials, once per process.

    Parameters
    ----------
    storage : the storage of a search. Its database is a URL that Optuna accepts, "journal:FILE" for a journal file of
        Optuna, which also works on a network disk, or None for an SQLite file in the folder.

    Returns
    -------
    The storage of Optuna.

    Raises
    ------
    ConnectionError : when the database cannot be opened, or is an SQLite file on a network disk.
    MissingExtraError : when Optuna is not installed.
    """
    file = database_file(storage)
    is_sqlite = storage.database is None or storage.database.startswith(_SQLITE)
    if file is not None and is_sqlite and (system := network_file_system(file)):
        raise ConnectionError(
            f"the file of trials {file} is on a network disk ({system}), where the locks of SQLite do not work and "
            f"processes damage the file; give --storage {_JOURNAL}{file.with_suffix('.log')}, the URL of a database "
            "server, or a search that needs no database, such as sobol"
        )
    return _open(storage.database, None if storage.database else storage.folder / "search.db")


@cache
def _open(url: str | None, file: Path | None) -> optuna.storages.BaseStorage:
    """Open the database at `url`, or the SQLite file `file`.

    When several processes find an empty database at the same time, one creates the tables; the attempts of the others
    fail, and they open the database again.
    """
    storages = import_optuna().storages
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError

    for attempt in range(_ATTEMPTS):
        try:
            if url is not None and url.startswith(_JOURNAL):
                backend = storages.journal.JournalFileBackend(url.removeprefix(_JOURNAL))
                journal: optuna.storages.BaseStorage = storages.JournalStorage(backend)
                return journal
            database: optuna.storages.RDBStorage = storages.RDBStorage(
                url or "sqlite://", engine_kwargs=_engine_options(url, file)
            )
            _create_missing_index(database.engine, file)
            return database
        except (IntegrityError, ProgrammingError, OperationalError) as error:
            last_error: Exception = error
            if isinstance(error, OperationalError) and "already exists" not in str(error):
                break
            time.sleep(0.05 * 2**attempt * (1 + random.random()))
        except (SQLAlchemyError, OSError, sqlite3.Error, ValueError, KeyError, RecursionError) as error:
            last_error = error
            break
    raise ConnectionError(_cannot_be_opened(file, last_error)) from last_error


def _create_missing_index(engine: sqlalchemy.Engine, file: Path | None) -> None:
    """Create the index of the names of studies in an SQLite database that a process was killed before it created.

    SQLite stores each table and each index at once, and Optuna creates indexes for new tables only. Without this index,
    a study would be stored twice.

    Raises
    ------
    ConnectionError : when a study is stored twice.
    """
    if engine.dialect.name != "sqlite":
        return
    from sqlalchemy import text
    from sqlalchemy.exc import IntegrityError

    try:
        with engine.begin() as connection:
            connection.execute(text("CREATE UNIQUE INDEX IF NOT EXISTS ix_studies_study_name ON studies (study_name)"))
    except IntegrityError as error:
        raise ConnectionError(
            f"{file or engine.url} contains a study twice, because the process that created it was killed; delete "
            "it, and the search starts again"
        ) from error


def _engine_options(url: str | None, file: Path | None) -> dict[str, Any]:
    """Options of SQLAlchemy's engine.

    An SQLite file is opened by its path, because some characters of a path have a meaning in a URL. A connection to a
    server is tested before it is used again, because hours may pass between two batches.
    """
    if file is not None:
        from sqlalchemy.pool import QueuePool

        options = {"timeout": _LOCK_SECONDS, "check_same_thread": False}
        return {"creator": lambda: sqlite3.connect(file, **options), "poolclass": QueuePool}  # type: ignore[call-overload]
    if url is not None and url.startswith(_SQLITE):
        return {"connect_args": {"timeout": _LOCK_SECONDS}}
    return {"pool_pre_ping": True}


def _cannot_be_opened(file: Path | None, error: Exception) -> str:
    reason = str(error).splitlines()[0]
    if file is not None:
        return (
            f"the file of trials {file} cannot be opened: {reason}; check that its folder can be written to and that "
            "the disk has free space, or give another folder"
        )
    return (
        f"the database of trials cannot be opened: {reason}; give the URL of a database that Optuna accepts and that "
        "this machine can reach, such as sqlite:///search.db or postgresql+psycopg2://user@host/name, or a file on a "
        "network disk, such as journal:/net/search.log"
    )


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


def stored_study(storage: Storage) -> optuna.Study | None:
    """The study in a storage; None where there is none."""
    file = database_file(storage)
    if file is not None and not file.exists():
        return None
    try:
        study: optuna.Study = import_optuna().load_study(study_name=storage.name, storage=open_database(storage))
    except KeyError:
        return None
    return study


_FORGOTTEN = "forgotten"
"""Attribute of a study: Optuna's numbers of the trials that no longer count."""


def first_of_each_number(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The finished trials in order of their numbers. Of trials that two processes stored, the first one counts."""
    first: dict[int, optuna.trial.FrozenTrial] = {}
    forgotten = set(study.user_attrs.get(_FORGOTTEN, ()))
    for trial in study.get_trials(deepcopy=False):
        if trial.number not in forgotten:
            first.setdefault(trial_number(trial), trial)
    return [first[number] for number in sorted(first)]


def trial_number(trial: optuna.trial.FrozenTrial) -> int:
    """The number of a trial in the search. Databases of older versions contain only Optuna's number."""
    return int(trial.user_attrs.get("number", trial.number))


def forget_all_but(study: optuna.Study, trials: Sequence[optuna.trial.FrozenTrial]) -> None:
    """Mark all other trials of a study as forgotten: `first_of_each_number` ignores them."""
    counted = {trial.number for trial in trials}
    others = [trial.number for trial in study.get_trials(deepcopy=False) if trial.number not in counted]
    study.set_user_attr(_FORGOTTEN, others)
