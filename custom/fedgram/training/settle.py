"""The last task of a run: a site keeps what its own validation groups prefer, in favour of home."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fedgram.core.directory import Directory
from fedgram.core.mixture import choose, paired, simplex
from fedgram.model.tasks import Task
from fedgram.model.tasks.base import mixed
from fedgram.model.tasks.labels import Classification
from fedgram.records import LabelledTokens, SiteEvaluation
from fedgram.scoring.frozen import FrozenLinear
from fedgram.scoring.frozen_linear import fit_frozen_linear
from fedgram.sites.base import Site
from fedgram.sites.kept import lent, read_trained, restore_kept
from fedgram.sites.settled import COMPONENTS, DIRECTORY, FROZEN, HOME, TOGETHER, Kept, write_settled
from fedgram.sites.single import SingleSite
from fedgram.training import rounds
from fedgram.training.directory import answerable, logits

_STEPS = 4  # weights of a mixture are multiples of 1/4: validation groups are few

Answers = Mapping[str, Tensor]  # the head's output for some samples, by component


def settle(
    site: Site,
    result: Path,
    home: Path | None,
    directory: Directory | None = None,
    *,
    regression: bool = True,
) -> SiteEvaluation:
    """Choose what a site keeps, write it beside the federation's model, and evaluate it.

    The federation's model is in place afterwards: it represents anchors and samples, whatever predicts. A site
    that was not trained alone keeps that model, and so does a unified one, whose answers cannot be averaged. Any
    other keeps home unless its validation groups prefer something else; fewer than two of them prefer nothing.

    Args:
        result: folder of the federation's model at the site.
        home: folder of the model that was trained alone; None where there is none.
        directory: of concepts; it takes part where it has all classes of the site.
        regression: whether the regression on frozen tokens takes part.

    Raises:
        CheckpointError: one of them cannot be read.
    """
    frozen = None
    restore_kept(site.model, site.optimizer, read_trained(result), result)
    if home is None:
        kept, metrics = Kept.alone(TOGETHER, "together: this job trains no site alone"), site.evaluate("test")
    elif not isinstance(site, SingleSite):
        kept = Kept.alone(TOGETHER, "together: answers of unified models cannot be averaged")
        metrics = site.evaluate("test")
    else:
        if regression:
            frozen = fit_frozen_linear(site.task, site.data["fit"], site.data["validation"])
        kept, metrics = _settle(site, home, directory, frozen)
    write_settled(result, kept, home, directory, frozen)
    metrics |= {f"kept_{component}": weight for component, weight in kept.weights.items()}
    return rounds.evaluation(site, metrics=metrics)


def _settle(
    site: SingleSite, home: Path, directory: Directory | None, frozen: FrozenLinear | None
) -> tuple[Kept, dict[str, float]]:
    """Choose by the validation split, and measure on the test split."""
    splits = [split for split in ("validation", "test") if len(site.data[split])]
    answers: dict[str, dict[str, Tensor]] = {"validation": {}, "test": {}}
    for split in splits:
        answers[split][TOGETHER] = site.outputs(site.data[split].tokens)
        if directory is not None and answerable(site, directory):
            answers[split][DIRECTORY] = logits(site, directory, site.data[split].tokens)
        if frozen is not None:
            answers[split][FROZEN] = frozen(site.data[split].tokens)
    with lent(site, read_trained(home), home):
        for split in splits:
            answers[split][HOME] = site.outputs(site.data[split].tokens)
    kept = prefer(site.task, answers["validation"], site.data["validation"])
    if "test" not in splits:
        return kept, {}
    chosen = mixed(site.task, answers["test"], kept.weights)
    metrics = site.measure(chosen, "test")
    return kept, metrics | gain_over(answers["test"][HOME], chosen, site.task, site.data["test"])


def prefer(task: Task, answers: Answers, data: LabelledTokens) -> Kept:
    """Choose the mixture of least validation loss, but home unless that is better by more than a standard error.

    The loss of a mixture is the task's own, within each group and then over groups; class weights count within a
    group only.

    Args:
        answers: of every component to the validation samples.
        data: these samples.
    """
    rows = _rows(data.groups)
    if len(rows) < 2:
        return Kept.alone(
            HOME, f"home: {len(rows)} validation groups, and it takes two to prefer another", len(rows)
        )
    names = [name for name in COMPONENTS if name in answers]
    candidates = [dict(zip(names, row, strict=True)) for row in simplex(len(names), _STEPS).tolist()]
    losses = torch.stack([_losses(task, mixed(task, answers, weights), data, rows) for weights in candidates])
    best = choose(losses)
    mean, error = paired(losses[0] - losses[best])
    alone = {
        max(weights, key=weights.__getitem__): i for i, weights in enumerate(candidates) if 1.0 in weights.values()
    }
    means = {name: losses[row].mean().item() for name, row in {**alone, "kept": best}.items()}
    why = f"home: nothing beats it by more than a standard error over {len(rows)} validation groups"
    if best:
        why = f"validation loss {mean:.3g} ± {error:.2g} below home's, over {len(rows)} groups"
    return Kept(
        weights={component: candidates[best].get(component, 0.0) for component in COMPONENTS},
        losses={name: loss for name, loss in means.items() if math.isfinite(loss)},
        standard_error=error if best and math.isfinite(error) else None,
        groups=len(rows),
        why=why,
    )


def gain_over(home: Tensor, kept: Tensor, task: Task, data: LabelledTokens) -> dict[str, float]:
    """The mean gain in accuracy of what is kept over home and its standard error, over groups of test samples.

    Other tasks than classification have no right and wrong, so they get neither; one group has no standard error.

    Args:
        home, kept: answers to the test samples.
        data: these samples.
    """
    if not isinstance(task, Classification):
        return {}
    right = [(output.argmax(1) == data.targets).double() for output in (home, kept)]
    gains = right[1] - right[0]
    mean, error = paired(torch.stack([gains[rows].mean() for rows in _rows(data.groups)]))
    return {"gain": mean} | ({"gain_se": error} if math.isfinite(error) else {})


def _rows(groups: Sequence[str]) -> list[Tensor]:
    """The rows of each group of samples."""
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    return [torch.tensor(rows) for rows in members.values()]


def _losses(task: Task, output: Tensor, data: LabelledTokens, groups: Sequence[Tensor]) -> Tensor:
    """The loss of an answer within each group, (G,), float64."""
    return torch.stack([task.loss(output[rows], data.targets[rows]).double() for rows in groups])
