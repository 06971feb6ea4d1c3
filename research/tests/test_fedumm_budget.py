"""The runs beyond equal compute: how steps are divided, and which prompts are new."""

from __future__ import annotations

from fedgram.data.prompts import Prompt, Wanted

from research.fedumm.budget import SEEDS, is_new, trials


def test_steps_can_be_divided_and_no_run_is_there_twice():
    found = trials()
    assert len(found) == len(set(found))
    assert {budget.seed for budget in found} == set(SEEDS)
    for budget in found:
        assert budget.steps % (budget.clients * budget.rounds) == 0


def test_a_prompt_is_new_by_its_thing_or_its_colour():
    def prompt(*wanted: Wanted) -> Prompt:
        return Prompt("", "", wanted)

    assert not is_new(prompt(Wanted("circle", 1)))
    assert not is_new(prompt(Wanted("circle", 1, "red"), Wanted("square", 1, "blue")))
    assert is_new(prompt(Wanted("star", 2)))
    assert is_new(prompt(Wanted("circle", 1), Wanted("star", 1)))
    assert is_new(prompt(Wanted("square", 1, "purple")))
