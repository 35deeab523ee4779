"""SQLite on a network disk is refused, because its locks do not work there."""

from __future__ import annotations

from pathlib import Path

import pytest

from otoscope.search import Storage, _network_disk
from otoscope.search._network_disk import network_file_system
from otoscope.search._optuna import open_database

MOUNTS = r"""21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:40 / {folder}/net rw,relatime shared:5 - nfs4 server:/export rw,vers=4.2
31 30 0:41 / {folder}/net/local\040disk rw - xfs /dev/sdb1 rw
32 21 0:42 / {folder}/lustre rw shared:7 - lustre 10.0.0.1@tcp:/work rw
"""


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "mountinfo"
    file.write_text(MOUNTS.replace("{folder}", str(tmp_path.resolve())))
    monkeypatch.setattr(_network_disk, "_MOUNTS", file)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "system"),
    [
        ("runs", None),
        ("net/runs/search.db", "nfs4"),
        ("net", "nfs4"),
        ("network", None),
        ("net/local disk/runs", None),
        ("lustre/a/b", "lustre"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_the_deepest_mount(mounts: Path, path: str, system: str | None) -> None:
    assert network_file_system(mounts / path) == system


def test_a_link_to_a_network_disk_is_followed(mounts: Path) -> None:
    (mounts / "lustre").mkdir()
    (mounts / "link").symlink_to(mounts / "lustre")
    assert network_file_system(mounts / "link/search.db") == "lustre"


def test_without_a_list_of_mounts_nothing_is_refused(mounts: Path) -> None:
    (mounts / "mountinfo").unlink()
    assert network_file_system(mounts / "net") is None


@pytest.mark.usefixtures("needs_optuna")
@pytest.mark.parametrize("database", [None, "sqlite:///{folder}/net/search.db"])
def test_sqlite_on_a_network_disk_is_refused(mounts: Path, database: str | None) -> None:
    storage = Storage(folder=mounts / "net", name="a", database=database and database.format(folder=mounts))
    message = r"is on a network disk \(nfs4\), where the locks of SQLite do not work.*--storage journal:.*search\.log"
    with pytest.raises(ConnectionError, match=message):
        open_database(storage)


@pytest.mark.usefixtures("needs_optuna")
def test_a_journal_on_a_network_disk_and_sqlite_elsewhere_are_opened(mounts: Path) -> None:
    (mounts / "net").mkdir()
    open_database(Storage(folder=mounts / "net", name="a", database=f"journal:{mounts}/net/search.log"))
    open_database(Storage(folder=mounts, name="a"))
