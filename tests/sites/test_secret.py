"""Nothing private of a site follows from the job: the attack that rebuilds its weights finds those of nobody."""

from __future__ import annotations

import stat
from dataclasses import replace
from hashlib import shake_256
from pathlib import Path

import numpy as np
import pytest
import torch
from fedgram.errors import ConfigError
from fedgram.sites.opening import open_site, reopen_site
from fedgram.sites.secret import private_generator, with_secret
from fedgram.sites.single import SingleSite
from fedgram.training import rounds
from fedgram.training.session import SiteSession
from torch import Tensor
from toy import Toy


def opened(toy: Toy, secret: str | None, name: str = "red") -> SingleSite:
    return open_site(name, replace(toy.sites[name], secret=secret), toy.job)


def weights(site: SingleSite) -> Tensor:
    """Of what is drawn at random, all in one row."""
    return torch.cat([value.flatten() for value in site.model.local_state().values() if value.dim() == 2])


def first_batches(site: SingleSite) -> list[list[int]]:
    return [batch.rows.tolist() for batch in site.batches(1, 3)]


def test_an_attacker_who_knows_the_job_rebuilds_only_a_site_without_a_secret(toy: Toy):
    """He has the job, the site's name and, for once, even its data: he opens the site as it does."""
    guess = opened(toy, "")
    naive, private = opened(toy, ""), opened(toy, "a phrase")
    assert torch.equal(weights(guess), weights(naive))
    assert first_batches(guess) == first_batches(naive)
    assert abs(torch.corrcoef(torch.stack([weights(guess), weights(private)]))[0, 1]) < 0.1
    assert first_batches(guess) != first_batches(private)
    assert torch.equal(weights(private), weights(opened(toy, "a phrase")))


def test_a_secret_fills_the_whole_state_of_the_generator(toy: Toy):
    """Of a seed PyTorch takes 32 bits, which a server could try one by one; NumPy's twister is the reference."""
    config = replace(toy.sites["red"], secret="a phrase")
    twister = np.random.MT19937()
    key = shake_256(f"{toy.job.seed}|red|what|a phrase".encode()).digest(4 * 624)
    twister.state = {
        "bit_generator": "MT19937",
        "state": {"key": np.frombuffer(key, dtype="<u4"), "pos": 624},
    }
    expected = twister.random_raw(2000)[1::2] % 2**31  # a whole number takes two words, and of them the lower bits
    drawn = torch.randint(2**31, (1000,), generator=private_generator("red", config, toy.job, "what"))
    assert drawn.tolist() == expected.tolist()


def test_the_share_of_a_site_is_measured_on_samples_that_its_secret_chooses(toy: Toy):
    run = toy.with_job(aggregation={"weights": "precision", "weight_samples": 5})
    first, second = (opened(run, secret) for secret in ("a phrase", "another"))
    second.model.load_local_state(first.model.local_state())
    anchors = first.model.embed(first.anchors.tokens)
    assert rounds.site_weight(first, anchors, 1) == rounds.site_weight(first, anchors, 1)
    assert rounds.site_weight(first, anchors, 1) != rounds.site_weight(second, anchors, 1)


def test_a_secret_is_drawn_once_and_is_nobody_elses(toy: Toy, tmp_path: Path):
    config = replace(toy.sites["red"], secret=None)
    drawn = with_secret(config, tmp_path / "red").secret
    assert with_secret(config, tmp_path / "red").secret == drawn
    assert with_secret(config, tmp_path / "green").secret != drawn
    assert [path.name for path in (tmp_path / "red").iterdir()] == ["secret"]
    assert stat.S_IMODE((tmp_path / "red" / "secret").stat().st_mode) == 0o600
    assert drawn is not None
    assert len(drawn) == 64
    assert drawn not in repr(with_secret(config, tmp_path / "red"))


@pytest.mark.parametrize("own", ["", "a phrase"])
def test_the_secret_of_the_sites_own_file_is_taken(toy: Toy, tmp_path: Path, own: str):
    assert with_secret(replace(toy.sites["red"], secret=own), tmp_path / "red").secret == own
    assert not (tmp_path / "red").exists()


@pytest.mark.parametrize("content", ["", "ab" * 31, "é" * 64])
def test_a_damaged_secret_is_refused(toy: Toy, tmp_path: Path, content: str):
    (tmp_path / "secret").write_text(content)
    with pytest.raises(ConfigError, match=r"secret: damaged\n  expected: 64 hexadecimal digits"):
        with_secret(replace(toy.sites["red"], secret=None), tmp_path)


def test_a_site_without_any_is_not_opened(toy: Toy):
    with pytest.raises(ConfigError, match="red: no secret to draw from"):
        opened(toy, None)


def test_a_result_can_be_used_and_shown_without_the_secret(toy: Toy, tmp_path: Path):
    session = SiteSession(opened(toy.with_job(training={"rounds": 1}), "a phrase"), tmp_path)
    session.site.save(tmp_path / "result", {})
    assert all(b"a phrase" not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    again = reopen_site(tmp_path / "result")
    assert torch.equal(weights(again), weights(session.site))
