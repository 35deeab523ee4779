"""docs/probes.md agrees with the probes."""

import re
from pathlib import Path

import pytest

from otoscope import load_plugin, probes
from otoscope.probes.contract import check_probe
from otoscope.types import TokenShape

PAGE = (Path(__file__).parents[2] / "docs" / "probes.md").read_text()
ROW = re.compile(r"^\| `([\w-]+)` \| (\d+) \| ([\d,]+) \| ([\d,.]+) \| ([\d,.]+) \|$", re.MULTILINE)


def test_the_cost_table_lists_every_trained_probe_with_its_cost():
    rows = ROW.findall(PAGE)
    assert {row[0] for row in rows} == {name for name in probes.names() if probes.solver_of(name, {}) != "stored"}
    for name, layers, *numbers in rows:
        cost = probes.cost(name, TokenShape(int(layers), 8, 768, True, 6.25), 527, 512)
        assert numbers == [f"{cost.parameters:,}", f"{cost.macs / 1e6:,.1f}", f"{cost.bytes / 1e6:,.1f}"]


@pytest.mark.parametrize("name", probes.names())
def test_every_probe_is_in_the_overview_or_the_guide(name):
    assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", PAGE.split("## What they cost")[0])


@pytest.mark.usefixtures("isolated_registries")
def test_the_example_passes_the_contract(tmp_path):
    [example] = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "@register" in block]
    file = tmp_path / "documented_probe.py"
    file.write_text(example)
    assert example.count("\n") < 60
    load_plugin(file)
    assert [result for result in check_probe("loudest") if not result.passed] == []
    shape = TokenShape(1, 2, 8, False, 6.25)
    assert probes.parameter_count("loudest", shape, 3, sharpness=2.0) == 8 * 3 + 3
    assert probes.create("loudest", shape, 3, sharpness=2.0).sharpness == 2.0
