"""Groups of sites: what those of one modality, or of one task, learn together."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fedgram.config.site import SiteConfig, read_site_config
from fedgram.data.rows import Row
from fedgram.errors import ConfigError, UpdateRejected
from fedgram.modalities import tabular
from fedgram.model.tasks.labels import Classification
from fedgram.records import SiteIntroduction, SiteUpdate
from fedgram.sites.channel import Channel
from fedgram.sites.groups import groups_of
from fedgram.sites.single import SingleSite
from fedgram.training import rounds
from fedgram.training.checkpoint import Checkpoint
from fedgram.training.loop import run_federation
from fedgram.training.server import Round, ServerState, agree
from safetensors.torch import load_file
from toy import CONCEPTS, Toy, signals, write_signals, write_site_file

BOTH = ("adapter", "head")
HEAD, WEIGHT = "head/weight", "adapter/linear.weight"


@pytest.fixture(scope="module")
def kin(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Rose sees as red does, on other samples; green has their classes in another modality; blue has others."""
    concepts = [c for c in CONCEPTS for _ in range(12)]
    ids = [str(i) for i in range(len(concepts))]
    path = tmp_path_factory.mktemp("kin") / "rose.csv"
    write_signals(path, signals("red", concepts, seed=9), {"id": ids, "concept": concepts, "group": ids})
    sites = {name: replace(config, share=BOTH) for name, config in toy.sites.items()}
    return replace(toy, sites={**sites, "rose": replace(sites["red"], data=str(path))})


@pytest.fixture(scope="module")
def opened(kin: Toy) -> dict[str, SingleSite]:
    return {name: kin.open(name) for name in kin.sites}


@pytest.fixture(scope="module")
def introductions(opened: dict[str, SingleSite]) -> list[SiteIntroduction]:
    return [rounds.introduce(site) for site in opened.values()]


@pytest.fixture(scope="module")
def start(kin: Toy, introductions: list[SiteIntroduction]) -> ServerState:
    return agree(introductions, kin.job)[0]


@pytest.fixture(scope="module")
def updates(opened: dict[str, SingleSite], start: ServerState) -> list[SiteUpdate]:
    return [rounds.local_round(site, start.state) for site in opened.values()]


def test_tables_are_of_one_group_by_their_columns_whatever_their_units_and_categories(toy: Toy):
    """Another hospital's means, spreads and words; a table with a column more is of another group."""

    def group(*rows: Row) -> str:
        channel = Channel(tabular.MODALITY, tabular.NumericTokens(rows), None, Path())
        return groups_of(config, channel, Classification(("oak", "rye")))["adapter"]

    config = replace(toy.sites["red"], share=("adapter",))
    names = ("age", "sex")
    here, there = Row(names, (40.0, "f"), "a"), Row(names, (9.0, "m"), "b")
    assert group(here, replace(here, values=(60.0, "f"))) == group(there)
    assert group(here) != group(Row((*names, "weight"), (40.0, "f", 60.0), "c"))
    frozen = Channel(tabular.MODALITY, toy.open("red").channel(0).tokenizer, None, Path())
    assert groups_of(config, frozen, Classification(("oak", "rye")))["adapter"] != group(here)


def finished(kin: Toy, start: ServerState, updates: list[SiteUpdate]) -> ServerState:
    current = Round(start, kin.job, kin.sites)
    for update in updates:
        current.add(update)
    return current.close()


def named(updates: list[SiteUpdate]) -> dict[str, SiteUpdate]:
    return {update.site: update for update in updates}


def test_a_group_has_two_sites_of_a_kind(kin: Toy, start: ServerState, opened: dict[str, SingleSite]):
    groups = start.groups
    assert {site: set(parts) for site, parts in groups.items()} == {
        "red": {"adapter", "head"},
        "rose": {"adapter", "head"},
        "green": {"head"},
    }
    assert groups["red"] == groups["rose"]
    assert groups["green"]["head"] == groups["red"]["head"]
    assert all(u.abs().max() == 0 for u in start.state.shared.values())
    assert start.state.shared[f"{groups['red']['head']}/{HEAD}"].shape == (4, 32)


def test_members_begin_alike_and_others_do_not(opened: dict[str, SingleSite]):
    first = {name: site.initial for name, site in opened.items()}
    for part in ("linear.weight", "mean", "inverse_std"):  # of the tokens of public anchors
        assert torch.equal(first["red"][f"local/adapter.{part}"], first["rose"][f"local/adapter.{part}"])
    assert not torch.equal(
        first["red"]["local/adapter.linear.weight"], first["green"]["local/adapter.linear.weight"]
    )
    for name in ("rose", "green"):
        assert torch.equal(first["red"]["local/head.weight"], first[name]["local/head.weight"])


def test_a_site_sends_what_its_groups_share(updates: list[SiteUpdate]):
    sent = {name: set(update.shared) for name, update in named(updates).items()}
    assert sent["red"] == sent["rose"] == {WEIGHT, "adapter/linear.bias", HEAD, "head/bias"}
    assert sent["green"] == {HEAD, "head/bias"}  # the only one of its modality
    assert sent["blue"] == set()
    assert all(d.dtype == torch.bfloat16 for update in updates for d in update.shared.values())
    assert all(d.abs().max() > 0 for update in updates for d in update.shared.values())


def test_the_group_goes_on_from_its_weighted_mean(
    kin: Toy, start: ServerState, updates: list[SiteUpdate], opened: dict[str, SingleSite]
):
    uncapped = kin.with_job(aggregation={"max_share": 1.0, "server_learning_rate": 2.0, "clip": 0})
    after, sent, group = finished(uncapped, start, updates), named(updates), start.groups["red"]
    members = {"adapter": ("red", "rose"), "head": ("red", "rose", "green")}
    for name in sent["red"].shared:
        part = name.partition("/")[0]
        total = sum(sent[site].weight for site in members[part])
        mean = sum(sent[site].weight / total * sent[site].shared[name].double() for site in members[part])
        torch.testing.assert_close(
            after.state.shared[f"{group[part]}/{name}"], (2 * mean).float(), atol=1e-8, rtol=1e-5
        )
    for name in ("red", "rose"):
        site = opened[name]
        rounds.adopt(site, after.state)
        expected = site.initial["local/adapter.linear.weight"] + after.state.shared[f"{group['adapter']}/{WEIGHT}"]
        assert torch.equal(site.model.adapters[0].linear.weight, expected)
        rounds.reset(site)


def test_within_a_group_no_site_holds_more_than_its_share(kin: Toy, start: ServerState, updates: list[SiteUpdate]):
    heavy = [replace(u, weight=90.0) if u.site == "red" else u for u in updates]
    after, sent = finished(kin, start, heavy), named(heavy)
    mean = (sent["red"].shared[WEIGHT].double() + sent["rose"].shared[WEIGHT].double()) / 2
    group = start.groups["red"]["adapter"]
    torch.testing.assert_close(after.state.shared[f"{group}/{WEIGHT}"], mean.float(), atol=1e-8, rtol=1e-5)


def test_the_order_of_sites_changes_no_bit(
    kin: Toy, start: ServerState, introductions: list[SiteIntroduction], updates: list[SiteUpdate]
):
    expected = finished(kin, start, updates).state.shared
    for order in itertools.permutations(range(4)):
        again = agree([introductions[i] for i in order], kin.job)[0]
        assert again.groups == start.groups
        found = finished(kin, again, [updates[i] for i in order]).state.shared
        assert found.keys() == expected.keys()
        assert all(torch.equal(u, expected[name]) for name, u in found.items())


def test_a_group_that_nobody_answers_for_stays_where_it_was(
    kin: Toy, start: ServerState, updates: list[SiteUpdate]
):
    moving = kin.with_job(aggregation={"server_momentum": 0.5})
    once = finished(moving, start, updates)
    sent = named([replace(u, round=2) for u in updates])
    twice = finished(moving, once, [sent["green"], sent["blue"]])
    adapter, head = (start.groups["red"][part] for part in ("adapter", "head"))
    assert torch.equal(twice.state.shared[f"{adapter}/{WEIGHT}"], once.state.shared[f"{adapter}/{WEIGHT}"])
    assert not torch.equal(twice.state.shared[f"{head}/{HEAD}"], once.state.shared[f"{head}/{HEAD}"])
    kept = f"first/shared/{adapter}/{WEIGHT}"
    assert torch.equal(twice.moments[kept], once.moments[kept])


class PowerCut(Exception):
    pass


def test_a_run_cut_in_the_middle_ends_with_the_same_bits_and_members_alike(kin: Toy, tmp_path: Path):
    def cut(record) -> None:
        if record.round == 2:
            raise PowerCut

    run = replace(kin.with_job(baseline=False), sites={k: v for k, v in kin.sites.items() if k != "blue"})
    whole = run_federation(run.sessions(tmp_path / "a"), run.job, tmp_path / "a" / "server")
    with pytest.raises(PowerCut):
        run_federation(run.sessions(tmp_path / "b"), run.job, tmp_path / "b" / "server", cut)
    saved = Checkpoint(tmp_path / "b" / "server", run.job).load()
    assert saved is not None
    assert saved.groups == whole.server.groups
    for session in run.sessions(tmp_path / "b").values():
        session.train(saved.run, saved.state)  # whose replies the server never saved
    resumed = run_federation(run.sessions(tmp_path / "b"), run.job, tmp_path / "b" / "server")
    assert all(torch.equal(u, resumed.server.state.shared[k]) for k, u in whole.server.state.shared.items())
    ends = {}
    for site in run.sites:
        ends[site], other = (load_file(tmp_path / k / site / "result/local.safetensors") for k in "ab")
        assert all(torch.equal(tensor, other[name]) for name, tensor in ends[site].items())
    for name in (k for k in ends["red"] if k.startswith("local/")):
        assert torch.equal(ends["red"][name], ends["rose"][name])
    assert torch.equal(ends["green"]["local/head.weight"], ends["red"]["local/head.weight"])
    assert whole.together["red"].gram.equal(whole.together["rose"].gram)  # one W and one B, though private data


def test_sites_that_differ_in_shape_are_no_group(kin: Toy, introductions: list[SiteIntroduction]):
    red = introductions[0]
    odd = replace(red, shared_shapes={**red.shared_shapes, WEIGHT: (32, 9)})
    state, rejected = agree([odd, *introductions[1:]], kin.job)
    assert not rejected
    assert "adapter" not in {part for parts in state.groups.values() for part in parts}
    assert {*state.groups} == {"red", "rose", "green"}  # the head's still is


@pytest.mark.parametrize(
    "change",
    [
        {"groups": {"adapter": "no hash"}},
        {"groups": {"bridge": "0" * 64}, "shared_shapes": {"bridge/x": (1,)}},
        {"groups": {"head": "0" * 64}},
        {"groups": {}},
        {"shared_shapes": {WEIGHT: (32, 0), HEAD: (4, 32)}},
        {"shared_shapes": {WEIGHT: (2**20, 2**20), HEAD: (4, 32)}},
    ],
)
def test_an_introduction_with_groups_that_are_none_is_left_out(
    kin: Toy, introductions: list[SiteIntroduction], change: dict
):
    _, rejected = agree([replace(introductions[0], **change), *introductions[1:]], kin.job)
    assert "adapter" in rejected["red"]


def changed(name: str, tensor: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[SiteUpdate], SiteUpdate]:
    return lambda u: replace(u, shared={**u.shared, name: tensor(u.shared[name])})


BAD: dict[str, tuple[Callable[[SiteUpdate], SiteUpdate], str]] = {
    "nothing shared": (lambda u: replace(u, shared={}), "shared: 4 layer names differ"),
    "another tensor": (lambda u: replace(u, shared={**u.shared, "head/x": torch.zeros(1)}), "names differ"),
    "a wrong shape": (changed(WEIGHT, lambda t: t[:-1]), "shared of 'adapter/linear.weight'"),
    "a wrong dtype": (changed(HEAD, lambda t: t.float()), "shared of 'head/weight': torch.float32"),
    "NaN": (changed(HEAD, lambda t: t * float("nan")), "not finite"),
    "a huge norm": (changed(WEIGHT, lambda t: t + 1e4), "an update of norm"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_change_is_refused_by_name(kin: Toy, start: ServerState, updates: list[SiteUpdate], fault: str):
    spoil, reason = BAD[fault]
    current = Round(start, kin.job, kin.sites)
    with pytest.raises(UpdateRejected, match=f"(?s)red: .*{reason}"):
        current.add(spoil(updates[0]))


def test_a_site_in_no_group_sends_nothing(kin: Toy, start: ServerState, updates: list[SiteUpdate]):
    """Blue is the only one of its kind; late was not there in round 0."""
    sent = named(updates)
    for intruder in (replace(sent["blue"], shared=sent["green"].shared), replace(sent["rose"], site="late")):
        with pytest.raises(UpdateRejected, match=r"(?s)in no group.*was not there in round 0"):
            Round(start, kin.job, [*kin.sites, "late"]).add(intruder)


def test_a_change_too_large_to_add_leaves_no_trace(kin: Toy, start: ServerState, updates: list[SiteUpdate]):
    lax = kin.with_job(aggregation={"max_update_norm": 1e30, "clip": 0})
    current = Round(start, lax.job, lax.sites)
    with pytest.raises(UpdateRejected, match="finite values up to"):
        current.add(changed(HEAD, lambda t: t + 1e25)(updates[0]))
    for update in updates[1:]:
        current.add(update)
    after, expected = current.close().state, finished(lax, start, updates[1:]).state
    assert all(torch.equal(b, after.B[name]) for name, b in expected.B.items())
    assert all(torch.equal(u, after.shared[name]) for name, u in expected.shared.items())


def test_a_site_file_shares_what_it_has(toy: Toy, tmp_path: Path):
    write_site_file(tmp_path / "red.toml", replace(toy.sites["red"], share=("adapter", "concepts")))
    assert read_site_config(tmp_path / "red.toml").share == ("adapter", "concepts")
    write_site_file(tmp_path / "red.toml", replace(toy.sites["red"], share=("tokens",)))
    with pytest.raises(ConfigError, match=r"(?s)'tokens'.*adapter \| head \| concepts"):
        read_site_config(tmp_path / "red.toml")
    for task in ("regression", "segmentation"):
        with pytest.raises(ConfigError, match=f"'head' for '{task}'"):
            replace(toy.sites["red"], share=("head",), task=task)
    with pytest.raises(ConfigError, match="nothing at a unified site"):
        SiteConfig(modality="unified", anchors="/a", unified={}, share=("adapter",))
