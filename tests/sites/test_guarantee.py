"""What a private site takes from public data alone, whatever its modality and task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fedgram import modalities
from fedgram.anchors import AnchorSet, load_anchors
from fedgram.config.privacy import PrivacyConfig
from fedgram.config.site import Columns, SiteConfig
from fedgram.data.splits import split_each
from fedgram.errors import ConfigError, DataError
from fedgram.modalities.tabular import NumericTokens
from fedgram.model.tasks import make_task
from fedgram.model.tasks.labels import Classification, MultiLabel
from fedgram.model.tasks.regression import Regression
from fedgram.records import Sample
from fedgram.sites import single
from fedgram.sites.guarantee import answerable, public_samples
from toy import Toy

BOUND = PrivacyConfig(epsilon=1.0, delta=1e-5)


def config(**changes: Any) -> SiteConfig:
    plain = {"modality": "text", "anchors": "/a", "data": "/d", "tokenizer": "t", "privacy": BOUND}
    return SiteConfig(**{**plain, **changes})


def sample(name: str, **changes: Any) -> Sample:
    return Sample(**{"id": name, "concept": "oak", "group": name, "content": name, **changes})


def test_tasks_are_known_without_a_sample():
    assert make_task(config(), [], ["rye", "oak", "oak"]) == Classification(("oak", "rye"))
    assert make_task(config(concepts=("pine", "moss")), [], ["oak"]) == Classification(("moss", "pine"))
    assert make_task(config(task="multilabel", columns=Columns(targets=("b", "a"))), []) == MultiLabel(("a", "b"))
    numbers = replace(BOUND, target=(50.0, 20.0))
    assert make_task(config(task="regression", privacy=numbers), []) == Regression(50.0, 20.0)
    with pytest.raises(ConfigError, match="1 class"):
        make_task(config(), [], ["oak"])


def test_samples_of_other_classes_are_left_out():
    task = Classification(("oak", "rye"))
    kept = answerable(task, [sample("a"), sample("b", concept="elm"), sample("c", concept="rye")])
    assert [s.id for s in kept] == ["a", "c"]


def test_a_split_moves_no_group_for_another():
    samples = [sample(f"{i}", concept=f"c{i % 3}") for i in range(200)]
    parts = split_each(samples)
    shares = {part: len(own) / 200 for part, own in parts.items()}
    assert shares == pytest.approx({"train": 0.7, "validation": 0.1, "test": 0.2}, abs=0.08)
    place = {s.group: part for part, own in parts.items() for s in own}
    for part, own in split_each(samples[7:]).items():
        assert all(place[s.group] == part for s in own)
    said = [replace(s, split="test" if s.id == "0" else "train") for s in samples]
    assert [s.id for s in split_each(said)["test"]] == ["0"]
    with pytest.raises(DataError, match="no training sample"):
        split_each([])


def test_an_encoder_is_fitted_to_the_anchors(toy: Toy):
    anchors: AnchorSet = load_anchors(Path(toy.sites["red"].anchors))
    modality = modalities.load(toy.sites["red"].modality)
    found = public_samples(anchors, modality)
    assert len(found) == len(anchors.covered("red"))
    assert {s.concept for s in found} == set(anchors.concepts("red"))


@pytest.mark.parametrize("bound", [BOUND, None])
def test_the_encoder_of_a_private_site_is_fitted_to_anchors_alone(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, bound: PrivacyConfig | None
):
    class Seen(Exception):
        pass

    def opened(modality: Any, name: str, window: Any, fit_on: list[Sample], here: SiteConfig) -> Any:
        raise Seen({s.id for s in fit_on})

    monkeypatch.setattr(single, "open_channel", opened)
    monkeypatch.setattr(single, "guarantee_of", lambda *_: None)
    with pytest.raises(Seen) as caught:
        single.open_single("red", replace(toy.sites["red"], privacy=bound), toy.job)
    slots = {str(slot) for slot in load_anchors(Path(toy.sites["red"].anchors)).covered("red")}
    assert (caught.value.args[0] == slots) == (bound is not None)


def test_tables_are_standardised_by_the_anchors():
    """The statistics that a table's tokenizer keeps are those of the rows that it was given: the anchors'."""
    from fedgram.data.rows import Row

    public = [Row(("age", "sex"), (float(age), "f"), "anchor") for age in (10, 20, 30)]
    tokens = NumericTokens(public)
    assert tokens.statistics["scales"][0][1] == 20.0
    unknown = tokens([Row(("age", "sex"), (20.0, "never seen"), "own")])
    assert torch.isfinite(unknown.values).all()
