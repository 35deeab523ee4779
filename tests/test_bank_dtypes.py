"""The benchmark of int8 tokens continues where it was interrupted, and pairs its measurements."""

import importlib
import re
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent.parent / "benchmarks"
CHANGE = r"[+-]\d+\.\d\d \([+-]\d+\.\d\d \.\. [+-]\d+\.\d\d\)"


@pytest.mark.filterwarnings("ignore:data set .scenes.. classes of split")
def test_every_probe_is_measured_three_times_and_trained_twice(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(PROGRAMS)
    dtypes = importlib.import_module("dtypes")
    monkeypatch.setattr(dtypes, "SMALL", {"train": 3, "validation": 2, "test": 2})
    monkeypatch.setattr(dtypes, "EPOCHS", {"summary": 1, "mean": 1, "tokens": 1})
    options = ["--small", "--out", str(tmp_path)]
    dtypes.main([*options, "--probes", "linear"])
    fits, fit = [], dtypes.fit
    monkeypatch.setattr(dtypes, "fit", lambda name, *a, **k: fits.append(name) or fit(name, *a, **k))
    dtypes.main([*options, "--probes", "linear,protobin"])
    assert fits == ["protobin", "protobin"]
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == ["linear", "linear", "protobin"]
    assert all(len(re.findall(CHANGE, row)) == 2 for row in rows)
    records = list(dtypes.Store(tmp_path / "results"))
    trained = {record.probe.partition(", ")[2]: record.protocol.dtype for record in records}
    assert trained == {"float16": "float16", "int8": "int8", "rounded": "float16"}
