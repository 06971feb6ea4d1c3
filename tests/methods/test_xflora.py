"""Modality experts, by hand."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from fedgram.errors import ConfigError
from fedgram.methods import method_of
from fedgram.training import rounds
from one_round import Step, with_method
from toy import Toy


def test_one_half_of_the_ranks_belongs_to_the_modality(toy: Toy):
    step = Step(with_method(toy, "xflora"))
    name, half = f"B/{step.layer}", step.run.job.adapter.rank // 2
    everybody = step.mean({site: u.extra[name] for site, u in step.updates.items()})
    red = step.mean({site: step.updates[site].extra[name] for site in ("red", "crimson")})
    got = step.after.state.extra[f"red/{name}"]
    torch.testing.assert_close(got[:, :half], everybody[:, :half].float())
    torch.testing.assert_close(got[:, half:], red[:, half:].float())


def test_the_common_half_stays_common_when_a_modality_is_late_or_silent(toy: Toy):
    run = with_method(toy, "xflora", aggregation={"min_sites": 1})
    step, half = Step(run), run.job.adapter.rank // 2

    def commons(extra: dict[str, torch.Tensor]) -> dict[str, list[torch.Tensor]]:
        """The common half of each factor, as every modality has it."""
        found: dict[str, list[torch.Tensor]] = {}
        for key, value in extra.items():
            name = key.partition("/")[2]
            found.setdefault(name, []).append(value[:half] if name.startswith("A/") else value[:, :half])
        return found

    first = step.close(step.before, [step.updates["red"]])
    assert {key.partition("/")[0] for key in first.state.extra} == {"red"}
    green = rounds.local_round(step.sites["green"], first.state)
    second = step.close(first, [green])  # green is late, and red silent
    assert all(torch.equal(red, green) for red, green in commons(second.state.extra).values())
    name = f"B/{step.layer}"
    before, change = first.state.extra[f"red/{name}"], green.extra[name].float()
    torch.testing.assert_close(second.state.extra[f"red/{name}"][:, :half], (before + change)[:, :half])
    torch.testing.assert_close(second.state.extra[f"red/{name}"][:, half:], before[:, half:])
    torch.testing.assert_close(second.state.extra[f"green/{name}"][:, half:], change[:, half:])


def test_one_rank_has_no_half(toy: Toy):
    with pytest.raises(ConfigError, match="rank 1"):
        method_of(with_method(toy, "xflora", adapter={"rank": 1}).job)


def test_no_site_holds_more_than_its_share_of_the_common_half(toy: Toy):
    """Between modalities as within one: 300 samples against 20 had counted for nine tenths."""
    step = Step(with_method(toy, "xflora", aggregation={"clip": 0.0}))
    name, half = f"B/{step.layer}", step.run.job.adapter.rank // 2
    large = {"weight": 300.0, "samples": 300}
    small = {"weight": 10.0, "samples": 10}
    updates = {k: dataclasses.replace(u, **large if k == "green" else small) for k, u in step.updates.items()}
    after = step.close(step.before, updates.values())
    shares = after.records[-1].shares
    assert shares == pytest.approx({"green": 0.5, "red": 1 / 6, "crimson": 1 / 6, "blue": 1 / 6})
    expected = sum(shares[k] * u.extra[name].double() for k, u in updates.items())
    got = after.state.extra[f"red/{name}"]
    torch.testing.assert_close(got[:, :half], expected[:, :half].float())
