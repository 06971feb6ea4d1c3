"""Home against together: spaces and their questions by hand, choices, trials, and one trial on made data."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from fedgram.errors import ConfigError

from research.worth import trial as running
from research.worth.cells import BY_CLASSES
from research.worth.choice import best_rates
from research.worth.lines import LINES
from research.worth.spaces import READOUTS, Placed, consensus_of, naming, retrieval, things
from research.worth.studies import FEDERATIONS, SEEDS, STUDIES, TUNING_SEEDS, tuning
from research.worth.trial import Trial

WIDTH, ANCHORS, EACH = 6, 24, 20
CONCEPTS = ("a", "b", "c", "d")
RATES = dict.fromkeys(product(FEDERATIONS, LINES), 3)


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def two_sites(shuffled: bool = False) -> dict[str, Placed]:
    """Two sites of one space that each sees turned in its own way; shuffled, the anchors of one are mixed up."""
    samples, anchors = draw(len(CONCEPTS) * EACH, WIDTH, seed=0), draw(ANCHORS, WIDTH, seed=1)
    anchors = anchors - anchors.mean(0)  # models centre on their anchors
    concepts = [c for c in CONCEPTS for _ in range(EACH)]
    found = {}
    for k, name in enumerate(("image-1", "text-1")):
        turn = torch.linalg.qr(draw(WIDTH, WIDTH, seed=10 + k))[0]
        order = (
            torch.randperm(ANCHORS, generator=torch.Generator().manual_seed(2)) if shuffled and k else slice(None)
        )
        found[name] = Placed(
            kind=name.partition("-")[0],
            z=samples @ turn,
            taught=samples @ turn,
            anchors=(anchors @ turn)[order],
            slots=tuple(range(ANCHORS)),
            ids=[f"{name}/{i}" for i in range(len(samples))],
            concepts=concepts,
            labels=concepts,
        )
    return found


@pytest.mark.parametrize("readout", READOUTS)
def test_one_space_that_is_turned_is_the_same_space(readout: str):
    space = two_sites()
    consensus = consensus_of(space, ANCHORS)
    found = retrieval(space, consensus, readout)
    assert found == {"r@1": 1.0, "r@1 chance": pytest.approx(1 / 4), "r@1 n": 2 * 4 * EACH}
    thing = {f"{name}/{i}": str(i) for name in space for i in range(4 * EACH)}
    fine = {str(i): CONCEPTS[i // EACH] for i in range(4 * EACH)}
    exact = things(space, consensus, readout, thing, fine)
    assert exact == {"thing": 1.0, "thing chance": pytest.approx(1 / 80), "thing n": 160, "fine": 1.0}


@pytest.mark.parametrize("readout", READOUTS)
def test_anchors_that_are_mixed_up_leave_chance(readout: str):
    space = two_sites(shuffled=True)
    assert retrieval(space, consensus_of(space, ANCHORS), readout)["r@1"] == pytest.approx(1 / 4, abs=0.12)


def test_sites_of_one_modality_are_not_asked():
    space = two_sites()
    same = {"image-1": space["image-1"], "image-2": replace(space["text-1"], kind="image")}
    assert retrieval(same, consensus_of(same, ANCHORS), "anchors") == {}
    assert things(same, consensus_of(same, ANCHORS), "anchors", {}, {}) == {}


def test_a_directory_names_what_has_no_label_at_a_site():
    """Samples at the corners of a square: pictures have labels of two, texts of all, and name the other two."""
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    anchors = torch.cat([corners, 2 * corners])
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])

    def placed(kind: str, turned: torch.Tensor, labels: str) -> Placed:
        taught = torch.stack([corners[CONCEPTS.index(label)] for label in labels])
        return Placed(
            kind=kind,
            z=corners @ turned,
            taught=taught @ turned,
            anchors=anchors @ turned,
            slots=tuple(range(8)),
            ids=list(CONCEPTS),
            concepts=CONCEPTS,
            labels=list(labels),
        )

    space = {"image-1": placed("image", torch.eye(2), "cd"), "text-1": placed("text", turn, "abcd")}
    found = naming(space, 8, {"image": ("a", "b")})
    assert found == {"naming": 1.0, "naming chance": 1 / 4, "naming n": 2}
    assert naming(space, 8, {}) == {}


def tuned(line: str, rate: int, score: float, federation: str = "emoji", seed: int = 100) -> dict:
    return {"federation": federation, "line": line, "rate": rate, "seed": seed, "validation accuracy": score}


def test_the_rate_is_the_best_on_validation_data():
    rows = [tuned("home", 1, 0.5), tuned("home", 3, 0.6), tuned("ours", 3, 0.4), tuned("ours", 1, 0.4)]
    rows += [tuned("home", 1, 0.9, seed=101), tuned("home", 3, 0.7, seed=101), tuned("home", 3, 0.2, "digits")]
    assert best_rates(rows) == {("emoji", "home"): 1, ("emoji", "ours"): 1, ("digits", "home"): 3}
    with pytest.raises(ConfigError, match="run it first"):
        best_rates([])


def test_no_trial_is_there_twice_and_none_is_on_a_split_that_chose_rates():
    chosen = list(tuning())
    tried = [trial for study in STUDIES.values() for trial in study(RATES)]
    assert len(set(chosen)) == len(chosen)
    assert len(set(tried)) == len(tried)
    assert {t.seed for t in chosen} == set(TUNING_SEEDS)
    assert {t.seed for t in tried} == set(SEEDS)
    assert {*TUNING_SEEDS}.isdisjoint(SEEDS)


def test_every_line_is_in_a_study_at_its_own_rate_or_that_of_another():
    rates = {key: 1 + (key[1] == "ours") for key in RATES}
    four = [t for t in STUDIES["few-labels"](rates) if t.level == 4]
    assert {t.line for t in four} == set(LINES)
    assert {t.line for t in four if t.rate == 2} == {"ours", "no losses", "frozen B", "ours, longer"}
    assert {(t.federation, t.line) for t in tuning()} == {
        (federation, name) for federation in FEDERATIONS for name, line in LINES.items() if not line.as_tuned
    }


def test_a_trial_is_a_row_of_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Home and ours, a round of one step: what is kept, floors, and all that four sites of one world are asked."""
    plain = running.job_of

    def short(*args):
        job = plain(*args)
        return replace(job, training=replace(job.training, rounds=1, local_steps=1))

    monkeypatch.setattr(running, "job_of", short)
    asked = [Trial("the very thing", "synthetic", 0, 0.0, line, 1, 0) for line in ("home", "ours")]
    home, ours = (running.run(trial, tmp_path) for trial in asked)
    floors = {"frozen_lr", "own_anchors", "frozen r@1 by ridge", BY_CLASSES}
    assert {"accuracy", "test_samples", *floors} <= home.keys()
    assert {"accuracy", "kept accuracy", "kept kept_home", "own rate accuracy", "bytes up"} <= ours.keys()
    measures = {f"{name} by {readout}" for readout in READOUTS for name in ("r@1", "thing", "fine")}
    assert measures <= home.keys() & ours.keys()
    assert home["thing n by anchors"] == ours["thing n by anchors"] > 0
    assert all(0 <= row[name] <= 1 for row in (home, ours) for name in row if name.endswith("accuracy"))
