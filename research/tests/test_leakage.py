"""Attacks find what is there to be found, and nothing in noise; scores are those of slow definitions."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fedgram.config.privacy import PrivacyConfig
from fedgram.model import lora
from fedgram.model.attaching import attach
from fedgram.model.geo_linear import ADAPTER
from fedgram.model.site_model import SiteModel, TokenAdapter
from fedgram.model.tasks.base import pooled_head
from fedgram.model.tasks.labels import Classification
from fedgram.records import Tokens
from fedgram.sites import guarantee
from fedgram.sites.single import open_single
from fedgram.training import private
from toy import Toy
from transformers import BertConfig, BertModel

from research.leakage import inversion, match, membership, optimised, proportions
from research.leakage.gradients import correlation, sample_gradients, sketches, strangeness
from research.leakage.measures import Finding, auc, averaged, found_at, hits
from research.leakage.noise import reply, rows_of
from research.leakage.page import MODES, PAGE, cells, standing, table
from research.leakage.sites import begin, secret_of, stand_in
from research.leakage.trial import ATTACKS, VIEWS, Line, Run, lines
from research.rows import RESULTS, read

TASK = Classification(("a", "b", "c"))
N, LENGTH, WIDTH, D = 30, 3, 12, 32


@pytest.fixture(scope="module")
def model() -> SiteModel:
    shape = BertConfig(
        vocab_size=8, hidden_size=D, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = BertModel(shape, add_pooling_layer=False)
    transformer = attach(backbone, rank=16, alpha=32.0, targets="all-linear", dora=False, seed=0)
    generator = torch.Generator().manual_seed(1)
    adapter = TokenAdapter(samples(), D, 0.02, generator)
    return SiteModel([adapter], transformer, pooled_head(D, 3, generator)).eval()


def samples() -> Tokens:
    generator = torch.Generator().manual_seed(2)
    return Tokens(torch.randn(N, LENGTH, WIDTH, generator=generator), torch.ones(N, LENGTH, dtype=torch.bool))


def update_of(model: SiteModel, row: int, label: int) -> dict[str, torch.Tensor]:
    """What the first step of Adam changes in B for one sample: the signs of its gradient."""
    layers = lora.adapted_layers(model.transformer)
    loss = TASK.loss(model(samples()[[row]]), torch.tensor([label]))
    found = torch.autograd.grad(loss, [layer.B for layer in layers.values()])
    return {name: -2e-3 * g.sign() for name, g in zip(layers, found, strict=True)}


def test_gradients_of_samples_are_those_of_a_slow_loop(model: SiteModel):
    targets = torch.arange(N) % 3
    found = sample_gradients(model, TASK, samples(), targets)
    layers = lora.adapted_layers(model.transformer)
    for row in (0, 7):
        loss = TASK.loss(model(samples()[[row]]), targets[[row]])
        slow = torch.autograd.grad(loss, [layers[name].B for name in sorted(layers)])
        torch.testing.assert_close(found[row], torch.cat([g.flatten() for g in slow]), rtol=1e-3, atol=1e-6)


def test_the_one_sample_of_a_step_is_found_from_the_row_space_alone(model: SiteModel):
    found = sketches(model, samples())
    for row in (3, 11, 20):
        strange = strangeness(update_of(model, row, 1), found, sorted(found)).sum(1)
        assert strange.argmin() == row


def test_gradients_that_can_be_differentiated_are_those_of_the_site(model: SiteModel):
    """Of samples of a class, and of half one, half another."""
    scale = next(iter(lora.adapted_layers(model.transformer).values())).scaling[ADAPTER]
    slow = [sample_gradients(model, TASK, samples(), torch.full((N,), label)) for label in (0, 1)]
    for logits, expected in (([50.0, 0.0, 0.0], slow[0]), ([50.0, 50.0, 0.0], (slow[0] + slow[1]) / 2)):
        found = optimised.step_gradients(model, samples(), torch.tensor(logits).expand(N, 3))
        whole = torch.cat([scale * found[name].flatten(1) for name in sorted(found)], dim=1)
        torch.testing.assert_close(whole, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("told", [True, False])
def test_optimisation_finds_the_tokens_of_a_step_and_none_in_noise(model: SiteModel, told: bool):
    seen = [update_of(model, row, row % 3) for row in (3, 11, 20, 26)]
    if not told:
        seen = [{name: torch.randn(delta.shape).sign() for name, delta in update.items()} for update in seen]
    adapter: Any = model.adapters[0]
    known = ((samples().values - adapter.mean) * adapter.inverse_std).flatten(0, 1)
    made = optimised.invented(model, seen, [LENGTH] * 4, seed=0)
    nearest = [torch.cosine_similarity(own[:, None], known, dim=2).argmax(1) // LENGTH for own in made]
    right = sum((near == row).sum().item() for near, row in zip(nearest, (3, 11, 20, 26), strict=True))
    assert right >= 6 if told else right <= 2  # of 12; a guess is right once in 30


def test_in_noise_no_sample_is_found(model: SiteModel):
    generator = torch.Generator().manual_seed(3)
    found, places = sketches(model, samples()), []
    for _ in range(20):
        layers = lora.adapted_layers(model.transformer).items()
        noise = {name: torch.randn(layer.B.shape, generator=generator) for name, layer in layers}
        places.append(int((strangeness(noise, found, sorted(found)).sum(1)).argsort().argsort()[5]))
    assert abs(sum(places) / 20 / (N - 1) - 0.5) < 0.2


def test_signs_give_the_correlations_back():
    generator = torch.Generator().manual_seed(4)
    mixing = torch.randn(3, 6, generator=generator)
    rows = torch.randn(20_000, 3, generator=generator) @ mixing
    torch.testing.assert_close(correlation(rows.sign()), torch.corrcoef(rows.T).double(), rtol=0, atol=0.04)


def test_shadows_tell_members_where_scores_differ_and_only_there():
    members = membership.halves(24, 20, seed=0)
    assert (members.sum(1) == 10).all()
    assert (members.sum(0) == 12).all()
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(24, 20, 3, generator=generator) + torch.randn(20, 1, generator=generator)
    blind = auc(membership.likelihood_ratios(noise, members).flatten(), members.flatten())
    loud = noise + 1.5 * members[..., None]
    told = auc(membership.likelihood_ratios(loud, members).flatten(), members.flatten())
    assert abs(blind - 0.5) < 0.08
    assert told > 0.95


def test_likelihood_ratios_are_those_of_a_slow_loop():
    generator = torch.Generator().manual_seed(8)
    x, members = torch.randn(8, 5, 2, generator=generator).double(), membership.halves(8, 5, seed=1)
    found = membership.likelihood_ratios(x, members)
    for target in (0, 5):
        rest = [s for s in range(8) if s != target]
        means = {
            (n, side): torch.stack([x[s, n] for s in rest if members[s, n] == side]).mean(0)
            for n in range(5)
            for side in (True, False)
        }
        away = [(x[s, n] - means[n, bool(members[s, n])]).square() for s in rest for n in range(5)]
        spread = torch.stack(away).mean(0)
        for n in range(5):
            out, inside = ((x[target, n] - means[n, side]).square() / (2 * spread) for side in (False, True))
            assert found[target, n].item() == pytest.approx((out - inside).sum().item())


def test_scores_by_hand():
    scores, members = torch.tensor([3.0, 1.0, 2.0, 1.0, 0.0]), torch.tensor([True, True, False, False, False])
    assert auc(scores, members) == pytest.approx((3 + 1.5) / 6)
    assert found_at(scores, members, 0.01).tolist() == [True, False]
    assert hits(3, 12, 0.25) == Finding(0.25, 0.25, 0.125, 12)
    assert averaged([0.0, 1.0], 0.5).error == pytest.approx(0.5)
    assert inversion.f1(Counter([1, 1, 2]), Counter([1, 3, 3])) == pytest.approx(1 / 3)


def test_shares_are_foretold_from_what_depends_on_them_and_from_nothing_else():
    generator = torch.Generator().manual_seed(6)
    shares = torch.distributions.Dirichlet(torch.ones(4)).sample((40,))
    features = shares @ torch.randn(4, 30, generator=generator)
    assert proportions.explained(features, shares, 0.1) > 0.7
    assert proportions.explained(torch.randn(40, 30, generator=generator), shares, 0.1) < 0.2


def test_leaving_one_out_is_that_of_a_slow_loop():
    generator = torch.Generator().manual_seed(7)
    x, y = torch.randn(9, 4, generator=generator).double(), torch.randn(9, 2, generator=generator).double()
    centred = x - x.mean(0)
    ridge = 0.1 * (centred @ centred.T).diagonal().mean()
    wrong = blind = 0.0
    for k in range(9):
        rest = torch.arange(9) != k
        inputs = torch.cat([centred[rest], torch.ones(8, 1)], 1)
        penalty = torch.diag(torch.tensor([1.0, 1, 1, 1, 0]).double()) * ridge
        weights = torch.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ y[rest])
        wrong += (y[k] - torch.cat([centred[k], torch.ones(1)]) @ weights).square().sum()
        blind += (y[k] - y[rest].mean(0)).square().sum()
    assert proportions.explained(x, y, 0.1).item() == pytest.approx(1 - float(wrong / blind))
    several = proportions.explained(x, torch.stack([y, y.flip(0)]), 0.1)
    torch.testing.assert_close(several[1], proportions.explained(x, y.flip(0), 0.1))


def test_what_explains_nothing_is_seldom_above_chance(monkeypatch: pytest.MonkeyPatch):
    """One or two of 60 regressions on noise, at 2.5 % each."""
    monkeypatch.setattr(proportions, "_SHUFFLED", 200)
    generator, above = torch.Generator().manual_seed(9), 0
    for _ in range(60):
        shares = torch.distributions.Dirichlet(torch.ones(4)).sample((24,))
        found = proportions.against_chance(torch.randn(24, 60, generator=generator), shares, generator)
        above += found.score > found.chance + 1.96 * found.error
    assert above <= 6


def test_a_run_is_several_lines_of_the_table():
    trial = Run("match", "start", 0.0, 1)
    row = {f"own|sample|{k}": v for k, v in dataclasses.asdict(Finding(1.0, 0.1, 0.2, 3)).items()}
    assert lines(trial, row) == {
        Line("match", "start", 0.0, 1, "own", "sample"): {"score": 1.0, "chance": 0.1, "error": 0.2, "cases": 3}
    }
    assert trial.attack in ATTACKS


@pytest.mark.parametrize("share", [(), ("adapter", "head")])
def test_a_stand_in_starts_as_the_site_with_its_secret_would(toy: Toy, share: Any):
    run = toy.with_job(training={"anchor_labels": False})
    config = replace(run.sites["red"], share=share)
    opened = [open_single("red", replace(config, secret=secret_of(k)), run.job) for k in range(2)]
    found = stand_in(opened[0], torch.arange(len(opened[0].data["train"])), secret_of(1))
    for name, value in opened[1].model.local_state().items():
        torch.testing.assert_close(found.model.local_state()[name], value, rtol=0, atol=0)


def test_the_truth_is_who_was_drawn(toy: Toy, monkeypatch: pytest.MonkeyPatch):
    """Of a site without a promise, and of one whose noise and Poisson sample come from a cipher."""
    monkeypatch.setattr(guarantee, "noise_multiplier", lambda *_: 0.8)
    run = toy.with_job(training={"anchor_labels": False, "local_steps": 1, "batch_size": 4})
    plain = replace(run.sites["red"], secret=secret_of("x"))
    taken: list[list[int]] = []
    slow = private.clipped_gradient
    monkeypatch.setattr(
        private,
        "clipped_gradient",
        lambda site, groups, *rest: taken.append(torch.cat([*groups]).tolist()) or slow(site, groups, *rest),
    )
    for config in (plain, replace(plain, privacy=PrivacyConfig(epsilon=8.0, delta=1e-3))):
        opened = open_single("red", config, run.job)
        site = stand_in(opened, torch.arange(20), secret_of("y"))
        state = begin([site, replace(site, name="other")]).state
        truth = rows_of(site, state)
        if site.guarantee is None:
            assert truth.tolist() == next(site.batches(1, 1)).rows.tolist()
        else:
            reply(site, state)
            assert site.guarantee.groups == 20
            assert taken == [truth.tolist()]


def test_the_page_says_what_the_rows_say():
    rows, page = read(RESULTS / "leakage.csv"), PAGE.read_text(encoding="utf-8")
    assert standing(rows) in page
    assert table(rows) in page
    assert {row["attack"] for row in rows} <= {*ATTACKS}
    assert {row["view"] for row in rows} <= {*VIEWS}


def test_what_the_page_concludes_is_in_the_rows():
    found = cells(read(RESULTS / "leakage.csv"))
    sample = "match", "batch of 1: the sample"
    assert found[*sample, "start"]["plain"].score > 0.9
    assert not any(found[*sample, knows]["plain"].above for knows in ("guess", "fitted"))
    assert 0.5 < found[*sample, "start"]["masked"].score < 0.9
    blind = found["proportions", "G: R² of the shares", "guess"]
    assert blind["plain"].score > 0.5 > 0.2 > blind["masked"].score
    assert not found["proportions", "ΔB: R² of the shares", "guess"]["plain"].above
    for what in ("G", "ΔB"):
        shares = found["proportions", f"{what}: R² of the shares", "start"]
        assert shares["plain"].score > 0.7 > 0.2 > shares["masked"].score
    assert all(cell.above for cell in found["held-out anchors", "concept", "256 samples"].values())
    unknown = {asked: by["masked"] for asked, by in found.items() if asked[2] == "guess" and "masked" in by}
    assert {asked[1] for asked, cell in unknown.items() if cell.above} <= {"G: R² of the shares"}


def test_what_the_page_concludes_of_noise_and_of_words_is_in_the_rows():
    found = cells(read(RESULTS / "leakage.csv"))
    private = {asked: by for asked, by in found.items() if asked[0] != "held-out anchors"}
    above = {
        mode: {asked[1] for asked, by in private.items() if mode in by and by[mode].above}
        for mode in MODES.values()
    }
    assert not above["DP, ε = 1"]
    assert not above["masked + DP, ε = 3"]
    assert {name.split(":")[0] for name in above["DP, ε = 3"]} == {"ΔB"}
    members = found["membership", "ΔB: AUC", "start"]
    assert members["DP, ε = 3"].score < 0.55
    shares = found["proportions", "ΔB: R² of the shares", "start"]
    assert [round(shares[f"DP, ε = {epsilon}"].score, 2) for epsilon in (8, 3)] == [0.1, 0.02]
    words = {asked: by for asked, by in found.items() if asked[0] == "optimisation"}
    for (_, _, knows), by in words.items():
        assert by["plain"].above == (knows == "start")
        assert not any(cell.above for mode, cell in by.items() if "DP" in mode)


def test_above_chance_is_beyond_the_interval_over_seeds():
    row = {"attack": "match", "measure": "m", "knows": "start", "epsilon": 0.0, "view": "own", "cases": 10}
    rows = [row | {"seed": k, "score": 0.6, "chance": 0.5, "error": 0.08} for k in range(3)]
    assert not cells(rows[:1])["match", "m", "start"]["plain"].above
    cell = cells(rows)["match", "m", "start"]["plain"]
    assert cell.error == pytest.approx(0.08 / 3**0.5)
    assert (cell.above, cell.seeds, cell.cases) == (True, 3, 30)
    released = cells([row | rows[0] | {"measure": "released adapter: AUC", "view": "sum"}])
    assert {*released["match", "released adapter: AUC", "start"]} == {"plain", "masked"}


@pytest.mark.slow
def test_a_row_of_the_table_comes_out_again(tmp_path: Path):
    """One sample in one step is found where the site's start is known, and the scores are those of the table."""
    found = match.attack("start", 0.0, 0, tmp_path)
    rows = [
        r for r in read(RESULTS / "leakage.csv") if (r["attack"], r["knows"], r["seed"]) == ("match", "start", 0)
    ]
    kept = {(r["view"], r["measure"]): r["score"] for r in rows if r["epsilon"] == 0}
    assert {key: finding.score for key, finding in found.items()} == pytest.approx(kept, abs=1e-6)
    assert found["own", "batch of 1: the sample"].score == 1.0
