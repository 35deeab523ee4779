"""Files of others: links in a bank, compiled kernels in the cache, permissions, and code that a model brings."""

from __future__ import annotations

import ast
import ctypes
import json
import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helpers_banks import Sounds, Toy, extract_quietly, file_contents
from otoscope import bank as banks
from otoscope.encoders import create
from otoscope.files import replacing
from otoscope.ops import _cache, _compiled

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs owners and modes of a POSIX system")
SOURCE = Path(banks.__file__).parents[1]


def test_an_extraction_neither_deletes_nor_replaces_files_behind_a_link(tmp_path: Path) -> None:
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "bank")
    others = tmp_path / "others"
    (bank.path / "train").rename(others)
    (others / ".shard-of-someone").write_text("kept")
    (others / "shard-00000.safetensors").write_text("kept")
    (bank.path / "train").symlink_to(others, target_is_directory=True)
    before = file_contents(others)
    with pytest.raises(banks.BankError, match=r"train is a link.*replace it by a folder"):
        extract_quietly(Toy(), Sounds(), bank.path)
    assert file_contents(others) == before


def test_partial_files_that_are_links_are_deleted_and_their_targets_are_kept(tmp_path: Path) -> None:
    bank = extract_quietly(Toy(), Sounds(), tmp_path / "bank")
    (tmp_path / "kept").write_text("kept")
    (bank.path / "train/.shard-1").symlink_to(tmp_path / "kept")
    (bank.path / "train/.shard-folder").mkdir()
    (bank.path / "train/shard-00000.safetensors").unlink()
    extract_quietly(Toy(), Sounds(), bank.path)
    assert (tmp_path / "kept").read_text() == "kept"
    assert not (bank.path / "train/.shard-1").is_symlink()


@POSIX
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_new_files_have_the_permissions_of_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "file") as temporary:
            temporary.unlink()  # as safetensors does, which writes another file
            temporary.touch(0o600)
        bank = extract_quietly(Toy(), Sounds(), tmp_path / "bank")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode
    files = [file for file in bank.path.rglob("*") if file.is_file()]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {mode}


def test_a_link_is_replaced_and_its_target_is_kept(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("kept")
    (tmp_path / "file").symlink_to(tmp_path / "target")
    with replacing(tmp_path / "file") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "target").read_text() == "kept"
    assert (tmp_path / "file").read_text() == "new"


@POSIX
@pytest.mark.skipif(_compiled.library() is None, reason="no C compiler here")
class TestCache:
    @pytest.fixture
    def compiled(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
        """The files into which the kernels are compiled; the cache of this test is empty."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return []

    def load(self, compiled: list[Path]) -> ctypes.CDLL:
        def compile_to(file: Path) -> None:
            compiled.append(file)
            file.write_bytes(Path(_compiled.library()._name).read_bytes())  # type: ignore[union-attr]

        return _cache.load("0", compile_to)

    def test_a_library_is_compiled_once_and_belongs_to_the_user_alone(
        self, tmp_path: Path, compiled: list[Path]
    ) -> None:
        assert self.load(compiled).has_integer_units is not None
        self.load(compiled)
        assert len(compiled) == 1
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "cache").rglob("*")}
        assert modes == {"otoscope": 0o700, "kernels-0.so": 0o600, "kernels-0.sha256": 0o600}

    @pytest.mark.parametrize("damage", ["truncated", "replaced", "digest", "writable", "link"])
    def test_a_library_that_is_damaged_or_of_others_is_compiled_again(
        self, tmp_path: Path, compiled: list[Path], damage: str
    ) -> None:
        self.load(compiled)
        library = tmp_path / "cache/otoscope/kernels-0.so"
        data = library.read_bytes()
        if damage in ("truncated", "replaced"):
            library.unlink()  # this process has loaded the file
            library.write_bytes(data[:4096] if damage == "truncated" else b"another library")
            library.chmod(0o600)
        elif damage == "digest":
            library.with_suffix(".sha256").write_bytes(b"\xff")
        elif damage == "writable":
            library.chmod(0o666)
        else:
            library.rename(tmp_path / "foreign.so")
            library.symlink_to(tmp_path / "foreign.so")
        assert self.load(compiled).has_integer_units is not None
        assert len(compiled) == 2
        assert library.read_bytes() == data
        assert not library.is_symlink()

    @pytest.mark.parametrize("folder", ["writable", "no home", "relative", "file"])
    def test_where_the_cache_cannot_be_used_the_library_is_compiled_into_a_temporary_folder(
        self, tmp_path: Path, compiled: list[Path], monkeypatch: pytest.MonkeyPatch, folder: str
    ) -> None:
        def no_home() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.chdir(tmp_path)
        if folder == "writable":
            (tmp_path / "cache/otoscope").mkdir(parents=True)
            (tmp_path / "cache/otoscope").chmod(0o777)
        elif folder == "file":
            (tmp_path / "cache").write_text("")
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", "relative" if folder == "relative" else "")
            monkeypatch.setattr(Path, "home", no_home)
        for _ in range(2):
            assert self.load(compiled).has_integer_units is not None
        assert len(compiled) == 2
        assert not any(file.exists() for file in compiled)
        assert not list(tmp_path.rglob("kernels-*"))


@POSIX
@pytest.mark.parametrize(
    ("mode", "owner", "private"),
    [(0o600, 0, True), (0o755, 0, True), (0o620, 0, False), (0o602, 0, False), (0o777, 0, False), (0o600, 1, False)],
)
def test_a_file_belongs_to_the_user_if_no_other_can_write_to_it(
    mode: int, owner: int, private: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    status: Any = SimpleNamespace(st_mode=stat.S_IFREG | mode, st_uid=os.getuid() + owner)
    assert _cache._belongs_to_user(status) is private
    monkeypatch.delattr(os, "getuid")
    assert _cache._belongs_to_user(status), "where there are no users"


@pytest.mark.parametrize(("encoder", "message"), [("hf", "brings its own code"), ("whisper", "of type 'own'")])
def test_the_code_of_a_model_is_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str, message: str
) -> None:
    pytest.importorskip("transformers", reason="the encoders need transformers")
    monkeypatch.setattr("builtins.input", lambda _: pytest.fail("asked whether to run the code"))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')\nclass Own: pass\n")
    config = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Own"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        create(encoder, path=str(tmp_path))
    assert not (tmp_path / "run").exists()


SHARED = ("self.arguments", "source.arguments")
"""The arguments of `otoscope.encoders._hf_source.Source`, in which `trust_remote_code` is what its user has said."""


def test_every_loader_refuses_code_and_pickles() -> None:
    required = {
        "from_pretrained": ("trust_remote_code", False),
        "np.load": ("allow_pickle", False),
        "torch.load": ("weights_only", True),
    }
    found = set()
    for file in SOURCE.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = next((name for name in required if ast.unparse(call.func).endswith(name)), None)
            if name:
                keyword, value = required[name]
                given = {k.arg or "**": ast.unparse(k.value) for k in call.keywords if k.arg in (keyword, None)}
                assert given == {keyword: str(value)} or given.get("**") in SHARED, f"{file}:{call.lineno}"
                found.add(name)
            if ast.unparse(call.func) in ("pickle.load", "pickle.loads", "pickle.Unpickler"):
                assert ast.unparse(call.args[0]).startswith("pickle.dumps("), f"{file}:{call.lineno}"
        assert "pickle" not in {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert found == set(required)
