"""Banks and results at URLs: the bytes of those in a folder, and nothing finished is lost when a server fails."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers_banks import file_contents
from helpers_records import make_protocol
from helpers_remote import REASON, S3, Server, contents, delete, s3_server, shards_in, write
from helpers_server import running
from helpers_units import SHARD, SLOW_TOY, plan_toy, serial_bank, start, work
from otoscope import bank as banks
from otoscope import cli, datasets, encoders
from otoscope.bench.units import PlanFolder, Status
from otoscope.bench.units.status import is_done
from otoscope.remote import Mirror, RemoteError, is_url, local_folder, shown
from otoscope.results import Predictions, Record, Store

pytestmark = pytest.mark.usefixtures("plugin_folder", "toy_plugins")

CLIPS = 96
"""Clips of the data set `tones`."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server | None]:
    """An S3 server, or None where its packages are missing."""
    if not S3:
        yield None
        return
    with s3_server() as started:
        yield started


@pytest.fixture(params=["memory", "s3"])
def url(request: pytest.FixtureRequest, server: Server | None, cache: Path) -> str:  # noqa: ARG001
    """An empty folder of each protocol."""
    if request.param == "s3" and server is None:
        pytest.skip(REASON)
    return f"{request.param}://bucket/{secrets.token_hex(8)}"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of mirrors of this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/otoscope/remote"


def extract(place: str | Path, *, seed: int = 0, **options: Any) -> banks.Bank:
    data = datasets.create("tones")
    return banks.extract(encoders.create("ear", seed=seed), data, place, shard_clips=SHARD, progress=False, **options)


# Places


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("s3://", ValueError, "names no folder"),
        ("ftp://me:secret@host/bank", ValueError, "contains a password"),
        ("file://tmp/x", ValueError, "needs three slashes and an absolute path, such as file:///tmp/x; or give"),
        ("mars://bucket/bank", ValueError, "mars:// is no protocol of fsspec"),
    ],
)
def test_urls_that_cannot_be_used_are_refused(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        local_folder(text)


def test_each_url_has_a_mirror_of_its_own(cache: Path) -> None:
    first, second = local_folder("memory://a/bank/"), local_folder("memory://b/bank")
    assert first == local_folder("memory://a/bank") != second
    assert {first.parent, second.parent} == {cache}
    assert (shown(first), shown(first / "banks/x"), shown(Path("bank"))) == (
        "memory://a/bank",
        "memory://a/bank/banks/x",
        "bank",
    )
    assert Mirror.of(cache) is None
    assert Mirror.of(cache / "unknown") is None
    assert not is_url(first)


def test_a_folder_from_elsewhere_is_no_mirror(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(local_folder("memory://a/bank"), tmp_path / "received")
    assert Mirror.of(tmp_path / "received") is None
    monkeypatch.chdir(cache)
    assert Mirror.of(Path(local_folder("memory://a/bank").name)) is not None
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home folder")))
    assert Mirror.of(tmp_path / "received") is None


@pytest.mark.usefixtures("cache")
def test_files_that_would_leave_the_mirror_are_not_listed() -> None:
    import fsspec

    write("memory://bucket/odd/.url", b"memory://elsewhere")
    write("memory://bucket/odd/a/b.json", b"{}")
    fsspec.filesystem("memory").store["/bucket/odd/../../evil"] = fsspec.filesystem("memory").store["/bucket/odd/.url"]
    mirror = Mirror.of(local_folder("memory://bucket/odd"))
    assert mirror is not None
    assert list(mirror.files()) == ["a/b.json"]


# Banks


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """A web server of the folder `served`, which lists its files as Python's and Apache's servers do."""
    pytest.importorskip("aiohttp", reason="http:// needs aiohttp")
    (tmp_path / "served").mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def send_header(self, keyword: str, value: str) -> None:
            if keyword != "Content-Length" or web.says_lengths:
                super().send_header(keyword, value)

        def log_message(self, format: str, *arguments: object) -> None:
            """Print nothing."""

    with running(partial(Handler, directory=str(tmp_path / "served"))) as address:
        web = Web(address, tmp_path / "served")
        yield web


@dataclass
class Web:
    """A web server: its URL, the folder that it serves, and whether it says how long a file is."""

    url: str
    folder: Path
    says_lengths: bool = True


@pytest.mark.usefixtures("cache")
def test_a_bank_on_a_web_server_is_read_and_not_written(web: Web) -> None:
    stored = extract(web.folder / "bank")
    bank = banks.open(f"{web.url}/bank")
    bank.verify()
    assert bank.split("train").tokens([0, 9]).x.equal(stored.split("train").tokens([0, 9]).x)
    with pytest.raises(RemoteError, match="can be read and not written, because a web server takes no files"):
        extract(f"{web.url}/other")
    assert [path.name for path in web.folder.iterdir()] == ["bank"]


@pytest.mark.usefixtures("cache")
def test_a_server_that_does_not_say_the_length_of_a_file_is_refused(
    web: Web, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(web.folder / "bank")
    web.says_lengths = False
    assert cli.main(["bank", "verify", f"{web.url}/bank"]) == 2
    assert "does not say how long" in (error := capsys.readouterr().err)
    assert "use another protocol, such as s3:// or gs://" in error


def test_a_bank_at_a_url_has_the_bytes_of_one_in_a_folder(url: str, cache: Path, tmp_path: Path) -> None:
    bank = extract(url)
    assert contents(url) == file_contents(serial_bank(tmp_path / "serial"))
    assert bank.place == url
    assert shards_in(cache) == []  # uploaded and deleted
    assert [extraction.clips for extraction in bank.extractions] == [CLIPS]


def test_reading_downloads_each_shard_once(url: str, cache: Path, tmp_path: Path) -> None:
    extract(url)
    shutil.rmtree(cache)  # another machine
    train = banks.open(url).split("train")
    assert shards_in(cache) == []
    expected = banks.open(serial_bank(tmp_path / "serial")).split("train")
    assert train.tokens([0, 9]).x.equal(expected.tokens([0, 9]).x)
    assert [Path(name).name for name in shards_in(cache)] == ["shard-00000.safetensors", "shard-00001.safetensors"]
    delete(f"{url}/train/shard-00001.safetensors")
    assert train.tokens([8]).x.equal(expected.tokens([8]).x)
    with pytest.raises(banks.IncompleteError, match=f"the bank at {url} is missing 1 of its"):
        banks.open(url)


def test_a_copy_is_read_by_another_process_without_a_download(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = extract(url).split("train").tokens([8])
    downloaded: list[str] = []
    monkeypatch.setattr(Mirror, "download", lambda _, sizes: downloaded.extend(sizes))
    assert banks.open(url).split("train").tokens([8]).x.equal(expected.x)
    assert downloaded == []


def test_a_copy_that_another_process_has_deleted_does_not_end_an_extraction(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = Mirror.upload

    def upload_and_delete(mirror: Mirror, name: str) -> None:
        upload(mirror, name)
        if "shard-" in name:
            (mirror.path / name).unlink()

    monkeypatch.setattr(Mirror, "upload", upload_and_delete)
    assert len(extract(url).split("train")) == 48


def test_an_interrupted_extraction_continues_where_no_copy_is_left(
    url: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded: list[str] = []
    upload = Mirror.upload

    def failing(mirror: Mirror, name: str) -> None:
        uploaded.append(name)
        if len([n for n in uploaded if "shard" in n]) > 3:
            raise RemoteError("the server is gone")
        upload(mirror, name)

    with monkeypatch.context() as patched:
        patched.setattr(Mirror, "upload", failing)
        with pytest.raises(RemoteError, match="the server is gone"):
            extract(url)
    assert sorted(name for name in contents(url) if "shard" in name) == uploaded[-4:-1]
    shutil.rmtree(cache)
    resumed = extract(url)
    assert sum(extraction.clips for extraction in resumed.extractions) == CLIPS - 3 * SHARD
    assert contents(url) == file_contents(serial_bank(tmp_path / "serial"))


def test_a_shard_that_could_not_be_uploaded_is_not_encoded_again(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = Mirror.upload
    with monkeypatch.context() as patched:
        patched.setattr(Mirror, "upload", lambda m, n: _refuse() if n.endswith("00001.safetensors") else upload(m, n))
        with pytest.raises(RemoteError, match="refused"):
            extract(url)
    assert [Path(name).name for name in shards_in(local_folder(url))] == ["shard-00001.safetensors"]
    resumed = extract(url)
    assert sum(extraction.clips for extraction in resumed.extractions) == CLIPS - 2 * SHARD
    assert contents(url) == file_contents(serial_bank(tmp_path / "serial"))


def _refuse() -> None:
    raise RemoteError("refused")


def test_a_complete_bank_is_opened_and_another_one_refused(url: str) -> None:
    extract(url)
    before = contents(url)
    assert len(extract(url).extractions) == 1
    with pytest.raises(banks.MismatchError, match=f"the bank at {url} differs"):
        extract(url, dtype="float32")
    assert contents(url) == before


def test_a_bank_that_was_replaced_elsewhere_is_not_read_from_old_copies(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(url).split("train").tokens([0])
    assert shards_in(local_folder(url))
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
        delete(url)
        extract(url, seed=1)
    expected = extract(tmp_path / "other", seed=1).split("train").tokens([0])  # files of the same length
    assert banks.open(url).split("train").tokens([0]).x.equal(expected.x)


def test_a_place_with_other_files_is_no_bank(url: str) -> None:
    write(f"{url}/notes.txt", b"notes")
    with pytest.raises(banks.BankError, match=f"{url} is not empty and has no manifest.json"):
        extract(url)


def test_a_bank_that_another_process_begins_while_its_files_are_listed_is_one(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(url)
    shutil.rmtree(local_folder(url))
    listings, files = [], Mirror.files

    def without_manifest_at_first(mirror: Mirror) -> dict[str, Any]:
        listings.append(files(mirror))
        return {n: f for n, f in listings[-1].items() if len(listings) > 1 or n != "manifest.json"}

    monkeypatch.setattr(Mirror, "files", without_manifest_at_first)
    assert set(banks.open(url).splits) == {"train", "validation", "test"}


def test_a_damaged_shard_is_found_and_written_again(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(url)
    assert cli.main(["bank", "verify", url]) == 0
    assert f"{url}: all files are as they were written" in capsys.readouterr().out
    name = f"{url}/train/shard-00001.safetensors"
    banks.open(url).split("train").tokens([8])  # an intact copy stays on this machine
    original = contents(url)["train/shard-00001.safetensors"]
    write(name, original[:-1] + bytes([original[-1] ^ 1]))
    assert cli.main(["bank", "verify", url]) == 1
    assert "are damaged: train/shard-00001.safetensors" in capsys.readouterr().err
    assert shards_in(local_folder(url)) == []  # a damaged copy is not kept
    with pytest.raises(banks.DamagedError, match=f"{name} is damaged: its content has another digest"):
        banks.open(url).split("train").tokens([8])
    write(name, original[:-1])
    with pytest.raises(banks.DamagedError, match=f"{name} is damaged"):
        banks.open(url)
    extract(url)
    assert contents(url) == file_contents(serial_bank(tmp_path / "serial"))


@pytest.mark.parametrize("content", [b"short", bytes(4416)])
def test_a_damaged_copy_is_downloaded_again(url: str, content: bytes, tmp_path: Path) -> None:
    extract(url).split("train").tokens([8])
    (name,) = shards_in(local_folder(url))
    assert len(contents(url)[name]) == 4416
    (local_folder(url) / name).write_bytes(content)
    expected = banks.open(serial_bank(tmp_path / "serial")).split("train").tokens([8])
    assert banks.open(url).split("train").tokens([8]).x.equal(expected.x)


def test_damaged_clips_are_found(url: str) -> None:
    bank = extract(url)
    write(f"{url}/train/clips.json", contents(url)["train/clips.json"].replace(b"train-0", b"train-x"))
    with pytest.raises(banks.DamagedError, match=r"are damaged: train/clips\.json"):
        bank.verify()


def test_a_plan_writes_its_bank_to_a_url(url: str, tmp_path: Path) -> None:
    plan = plan_toy(tmp_path / "plan", bank=url)
    assert PlanFolder.read(plan.path).layout.banks[0].path == url
    assert work(plan, 0, 2).done == 2
    assert sorted(Status.of(plan).done) == [0, 2]
    assert [is_done(plan, unit) for unit in plan.units[:3]] == [True, False, True]  # type: ignore[arg-type]
    assert work(plan).remaining == 0
    assert Status.of(plan).complete
    assert contents(url) == file_contents(serial_bank(tmp_path / "serial"))


# Results


def make_record(seed: int) -> Record:
    protocol = make_protocol("ear", "tones", "linear")
    return Record(
        encoder="ear",
        dataset="tones",
        probe="linear",
        seed=seed,
        protocol=protocol,
        metric="mAP",
        value=0.5,
        parameters=10,
        train_seconds=1.0,
    )


def predictions(shift: float = 0.0) -> Predictions:
    return Predictions(("a", "b"), np.array([[shift], [0.5]], np.float32), np.array([[1], [0]], np.uint8), ("dog",))


def test_records_are_uploaded_and_read_on_another_machine(url: str, cache: Path, tmp_path: Path) -> None:
    store = Store(url)
    first, second = make_record(seed=0), make_record(seed=1)
    store.add(first, predictions())
    store.add(second)
    local = Store(tmp_path / "local")
    local.add(first, predictions())
    local.add(second)
    assert contents(url) == file_contents(local.path)
    shutil.rmtree(cache)
    other = Store(url)
    assert list(other) == list(store) == [first, second]
    stored = other.predictions(first)
    assert stored is not None
    assert stored.scores.tolist() == predictions().scores.tolist()
    other.remove(first)
    store.pull()
    assert list(store) == [second]
    assert first.key not in store


def test_a_record_that_was_measured_again_elsewhere_replaces_the_copy(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, record = Store(url), make_record(seed=0)
    store.add(record)
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("XDG_CACHE_HOME", str(Path.cwd() / "elsewhere"))
        other = Store(url)
        other.remove(record)
        other.add(replace(record, value=0.25))
    store.pull()
    assert [each.value for each in store] == [0.25]


def test_a_record_that_could_not_be_uploaded_is_kept_and_uploaded_later(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, record = Store(url), make_record(seed=0)
    with monkeypatch.context() as patched:
        patched.setattr(Mirror, "upload", lambda *_: _refuse())
        with pytest.raises(RemoteError, match="refused"):
            store.add(record, predictions())
    assert contents(url) == {}
    again = Store(url)
    assert list(again) == [record]
    assert len(contents(url)) == 2


def test_a_record_that_is_written_while_another_process_reads_the_url_is_kept(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, record, listing = Store(url), make_record(seed=0), Mirror.files

    def late(mirror: Mirror) -> Any:
        files = listing(mirror)
        if record.key not in store:
            store.add(record)
        return files

    monkeypatch.setattr(Mirror, "files", late)
    assert list(Store(url)) == [record]


def test_a_probe_stores_bank_and_results_at_a_url(
    url: str, cache: Path, capsys: pytest.CaptureFixture[str], plugin_folder: Path
) -> None:
    trained = ["probe", "--probe", "linear", "--encoder", "ear", "--dataset", "tones", "--epochs", "2", "--quiet"]
    assert cli.main([*trained, "--out", url]) == 0
    assert f"results in {url}" in capsys.readouterr().out
    names = contents(url)
    assert len([name for name in names if name.startswith("results/records/")]) == 1
    assert len([name for name in names if name.startswith("banks/")]) == 1 + 3 + 3  # manifest, clips, shards
    shutil.rmtree(cache)
    assert cli.main([*trained, "--out", url]) == 0
    assert "nothing to do: all 1 runs are finished" in capsys.readouterr().out
    shutil.rmtree(cache)
    assert cli.main(["results", "--out", url]) == 0
    assert "linear" in capsys.readouterr().out
    assert cli.main(["report", "--out", url]) == 0
    assert (plugin_folder / "report.html").exists()


@pytest.mark.skipif(not S3, reason=REASON)
@pytest.mark.usefixtures("server", "cache")
def test_workers_of_a_suite_store_its_bank_and_results_at_a_url(tmp_path: Path) -> None:
    url, suite = "s3://bucket/suite", ["bench", "--encoders", "ear", "--datasets", "tones", "--probes", "linear,mean"]
    suite += ["--plugin", "toy.py", "--threads", "1", "--quiet", "--no-control"]
    assert cli.main([*suite, "--out", url, "--on", "local:2"]) == 0
    assert cli.main([*suite, "--out", "one"]) == 0
    stored = contents(url)
    assert {name.partition("/")[0] for name in stored} == {"banks", "results"}
    one = {name: content for name, content in file_contents(tmp_path / "one").items() if name.startswith("banks/")}
    assert {name: content for name, content in stored.items() if name.startswith("banks/")} == one
    values = [(record.probe, record.metrics) for record in Store(f"{url}/results")]
    assert values == [(record.probe, record.metrics) for record in Store("one/results")]


# Servers that fail


@pytest.mark.usefixtures("cache")
@pytest.mark.skipif(not S3, reason=REASON)
def test_a_server_that_is_gone_ends_an_extraction_which_then_continues(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(SLOW_TOY)
    with s3_server() as server:
        arguments = ["extract", "--encoder", "ear", "--dataset", "tones", "--bank", "s3://bucket/bank", "--quiet"]
        arguments += ["--shard-clips", str(SHARD), "--plugin", "toy.py", "--loader-workers", "0"]
        with start(*arguments, folder=tmp_path, stderr=-1) as process:
            while process.poll() is None and sum("shard" in name for name in contents("s3://bucket/bank")) < 2:
                pass
            stored = contents("s3://bucket/bank")
            server.kill()
            assert process.wait(120) == 2
            assert process.stderr is not None
            assert "cannot be written" in process.stderr.read()
        with pytest.raises(RemoteError, match="s3://bucket/bank cannot be listed"):
            banks.open("s3://bucket/bank")
        server.start()  # it has lost its bucket; put back what was stored
        import fsspec

        fsspec.filesystem("s3").mkdir("bucket")
        for name, content in stored.items():
            write(f"s3://bucket/bank/{name}", content)
        resumed = extract("s3://bucket/bank")
        assert sum(each.clips for each in resumed.extractions) < CLIPS
        assert contents("s3://bucket/bank") == file_contents(serial_bank(tmp_path / "serial"))


@pytest.mark.usefixtures("server", "cache")
@pytest.mark.skipif(not S3, reason=REASON)
def test_a_missing_bucket_is_reported() -> None:
    with pytest.raises(RemoteError, match=r"s3://nowhere/bank/manifest\.json cannot be written"):
        extract("s3://nowhere/bank")


@pytest.mark.parametrize("command", ["work", "status", "launch"])
def test_plans_at_urls_are_refused(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([command, "memory://bucket/plan", *["--on", "local:1"] * (command == "launch")])
    assert "plans, claims and searches need a file system that all workers see" in capsys.readouterr().err


def test_workers_on_other_machines_need_a_plan_that_they_see(capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    extraction = ["extract", "--encoder", "ear", "--dataset", "tones", "--bank", "ftp://server/bank"]
    assert cli.main([*extraction, "--on", "slurm:array=2"]) == 2
    assert "workers on other machines need a plan in a folder that all see" in capsys.readouterr().err
    assert not list(cache.glob("*-plan"))
