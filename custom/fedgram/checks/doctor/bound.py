"""The check of a site's promise of differential privacy: what it amounts to, and what of its budget is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fedgram.checks.doctor.visit import Finding, Visit, needed
from fedgram.config.state import state_folder
from fedgram.sites.budget import Budget
from fedgram.sites.draws import require_secret
from fedgram.sites.guarantee import INSTEAD, guarantee_of


def privacy(visit: Visit) -> Iterator[Finding]:
    """Check that the job's noise can be had, and that its ε is left; nothing where the site promises none."""
    config, name = needed(visit.config, "site file"), visit.kit.name
    if (promised := config.privacy) is None:
        return
    if config.secret is not None:
        require_secret(name, config)
    folder = Path(state_folder(config.state, visit.kit.folder / "fedgram"), name)
    spent = Budget(name, folder, promised).spent()
    left = f"spent so far: ε {spent.epsilon:.3g} of {promised.total:g}, δ {spent.delta:.3g}"
    train = needed(visit.samples, "data")["train"]
    if visit.job is None:
        what = f"({promised.epsilon:g}, {promised.delta:g})-differential privacy of each group in every job"
    else:
        what = str(guarantee_of(name, config, visit.job.settings, train))
    yield Finding("ok", "\n".join([what, left, *(f"{part}: {instead}" for part, instead in INSTEAD.items())]))
    if spent.epsilon + promised.epsilon > promised.total:
        text = f"of the budget ε = {promised.total:g} too little is left for a job of ε = {promised.epsilon:g}"
        yield Finding("warning", text, "a run that has begun goes on; no other job will have a reply from here")
