"""Public captions that a unified site rehearses: learnt beside its own, counted nowhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import unified_toy
from fedgram.checks.data.unified import check
from fedgram.config.site import read_site_config
from fedgram.errors import ConfigError, DataError
from fedgram.model import lora
from fedgram.sites.unified import UnifiedSite
from fedgram.training import rounds
from toy import write_site_file
from unified_toy import UnifiedToy

from research.scenes.data import write_scene_captions


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> UnifiedToy:
    root = tmp_path_factory.mktemp("unified")
    write_scene_captions(root / "public", 6, 9, unified_toy.WORLD, pixels=unified_toy.PIXELS)
    return unified_toy.make(root)


def rehearsing(toy: UnifiedToy, name: str, table: Path | None = None, **settings: object) -> UnifiedToy:
    """The toy with one site, which rehearses."""
    before, public = toy.sites[name], str(table or toy.root / "public" / "captions.jsonl")
    assert before.unified is not None
    return replace(
        toy, sites={name: replace(before, unified=replace(before.unified, rehearsal=public, **settings))}
    )


def opened(toy: UnifiedToy, name: str) -> UnifiedSite:
    site = toy.open(name)
    assert isinstance(site, UnifiedSite)
    return site


def test_a_step_learns_a_batch_of_public_captions_too(toy: UnifiedToy):
    """The loss is that without them, and the weight times theirs and the drift, with the draws that come next."""
    site = opened(rehearsing(toy, "one", generation_weight=2.0, drift_weight=5.0), "one")
    batch = next(site.batches(1, 1))
    public = site.rehearsal
    assert len(public.items.questions) == 0
    assert len(public.items.captions) == 6
    assert len(batch.rehearsed) == toy.job.training.batch_size
    for layer in lora.adapted_layers(site.model.transformer).values():
        torch.nn.init.normal_(layer.B, generator=torch.Generator().manual_seed(1))
    before = batch.draws.get_state()
    whole = site.task_loss(batch).loss
    batch.draws.set_state(before)
    own = site.task_loss(replace(batch, rehearsed=batch.rehearsed[:0])).loss
    texts = [public.items.captions[i].text for i in batch.rehearsed.tolist()]
    making, drift = site.model.unified.rehearsal_losses(
        texts, public.targets[batch.rehearsed], batch.draws, site.model.untrained
    )
    assert drift > 0
    torch.testing.assert_close(whole, own + 2.0 * (making + 5.0 * drift))


def test_without_a_table_nothing_is_rehearsed(toy: UnifiedToy):
    site = opened(toy, "one")
    assert len(site.rehearsal) == 0
    assert len(next(site.batches(1, 1)).rehearsed) == 0


def test_a_site_that_only_answers_can_rehearse(toy: UnifiedToy):
    """So its answers do not unlearn what the base can make."""
    site = opened(rehearsing(toy, "answers"), "answers")
    batch = next(site.batches(1, 1))
    assert site.task_loss(batch).loss > site.task_loss(replace(batch, rehearsed=batch.rehearsed[:0])).loss


def test_what_is_rehearsed_is_no_sample_of_the_site(toy: UnifiedToy):
    with_public, without = opened(rehearsing(toy, "one"), "one"), opened(toy, "one")
    assert rounds.samples_said(with_public) == rounds.samples_said(without)
    assert {part: len(data) for part, data in with_public.data.items()} == {
        part: len(data) for part, data in without.data.items()
    }


def test_a_table_that_is_not_there_is_named(toy: UnifiedToy, tmp_path: Path):
    run = rehearsing(toy, "one", tmp_path / "none.jsonl")
    with pytest.raises(DataError, match=r"none\.jsonl"):
        run.open("one")


def test_a_relative_path_is_refused(toy: UnifiedToy, tmp_path: Path):
    write_site_file(tmp_path / "one.toml", rehearsing(toy, "one", Path("public.jsonl")).sites["one"])
    with pytest.raises(ConfigError, match=r"unified\.rehearsal is a relative path"):
        read_site_config(tmp_path / "one.toml")


def test_data_check_opens_the_public_pictures(toy: UnifiedToy, tmp_path: Path):
    write_scene_captions(tmp_path / "public", 2, 3, unified_toy.WORLD, pixels=unified_toy.PIXELS)
    path = tmp_path / "one.toml"
    write_site_file(path, rehearsing(toy, "one", tmp_path / "public" / "captions.jsonl").sites["one"])
    assert not check(path).failed
    spoilt = sorted((tmp_path / "public").rglob("*.png"))[0]
    spoilt.write_bytes(b"no picture")
    found = check(path)
    assert found.failed
    assert [finding.text for finding in found.findings if spoilt.name in finding.text]
