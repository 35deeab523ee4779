"""The table of all named encoders in the documentation, and what their cards say."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from helpers_ports import ONE_OF_EACH_KIND, encode, noise, small
from otoscope.bench import suites
from otoscope.bench.specs import unavailable_reason
from otoscope.encoders.catalog import Ported, ported
from otoscope.encoders.catalog._overview import count_steps

NAMED = ported()


def test_the_documentation_has_the_table_of_the_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "tools"))
    import encoder_table

    written = encoder_table.SECTION.search(encoder_table.PAGE.read_text(encoding="utf-8"))
    sys.modules.pop("encoder_table")
    assert written
    assert written[0] == encoder_table.table(), "run `python tools/encoder_table.py`, which writes docs/encoders.md"


@pytest.mark.parametrize("cls", NAMED.values(), ids=NAMED)
def test_a_card_is_complete(cls: type[Ported]) -> None:
    card = cls.card
    assert card.licence
    assert card.citation
    assert card.pretrained_on
    assert card.about.endswith(".")
    assert card.sources or card.instructions
    for address in (card.homepage, *(source.url for source in card.sources)):
        assert urlsplit(address).scheme == "https"
        assert urlsplit(address).netloc
    assert all(len(source.sha256) in (0, 64) for source in card.sources)
    parameters = sum(parameter.numel() for parameter in cls.skeleton().parameters()) / 1e6
    assert card.parameters == pytest.approx(parameters, abs=0.051)


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_the_number_of_tokens_is_that_of_a_lone_clip(name: str) -> None:
    cls = NAMED[name] if name == "perch2" else small(NAMED[name], depth=1)
    for seconds in (10, 3.3):
        tokens = encode(cls(weights="random"), noise(round(seconds * cls.sample_rate)))
        assert count_steps(cls, seconds) == int(tokens.mask.sum())


def test_the_documentation_names_the_encoders_with_a_classifier() -> None:
    page = (Path(__file__).parents[1] / "docs" / "encoders.md").read_text(encoding="utf-8")
    names = [name for name, cls in NAMED.items() if cls.classifier]
    text = ", ".join(f"`{name}`" for name in names[:-1]) + f" and `{names[-1]}`"
    assert text in " ".join(page.split())


@pytest.mark.parametrize("suite", ["unmute", "fewshot-birds"])
def test_suites_of_papers_lack_weights_but_no_encoder(
    suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTOSCOPE_MODELS", str(tmp_path))
    for spec in suites.load(suite).encoders:
        assert f"`otoscope encoders get {spec.name}`" in (unavailable_reason(spec) or "")
