"""A comparison of unified sites before and after a run, on their own test questions and public prompts.

For where the results of all sites lie in one place, as after the simulator. Nothing here is sent.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL.Image import Image
from rich.console import Console
from rich.table import Table

from fedgram.data.items import Question
from fedgram.data.pixels import Picture, open_image
from fedgram.data.prompts import Prompt
from fedgram.files import write_atomically, write_text
from fedgram.scoring.geneval.rules import fault
from fedgram.sites import kept
from fedgram.sites.base import derive_generator
from fedgram.sites.unified import UnifiedSite, open_unified

_QUESTIONS, _PICTURES = 8, 8  # in the figure
_COLOURS = {True: "green", False: "firebrick"}  # of what is right, and wrong
_NAMES = {"vqa_accuracy": "VQA", "geneval": "GenEval"}


@dataclass(frozen=True)
class Shown:
    """One model's scores, and its answers and pictures for the questions and prompts of the figure.

    Attributes:
        scores: metrics by site on its own test split.
        answers: to the questions of the figure.
        answered: whether each of them is right.
        pictures: of its prompts.
        drawn: whether each of them shows what was asked.
    """

    scores: Mapping[str, Mapping[str, float]]
    answers: Sequence[str]
    answered: Sequence[bool]
    pictures: Sequence[Image]
    drawn: Sequence[bool]


def write(folders: Sequence[Path], results: Path, console: Console) -> None:
    """Compare the base with the trained models, print tables, write ``unified.json`` and ``unified.png``.

    Args:
        folders: result folders of unified sites.

    Raises:
        CheckpointError, FedgramError: a result is damaged, or its site cannot be opened any more.
    """
    found = {folder: kept.read_kept(folder) for folder in folders}
    sites = [open_unified(facts["site"], config, job) for facts, config, job, _ in found.values()]
    questions, prompts = _chosen(sites), _prompts(sites)
    before = _look(sites, questions, prompts)
    for site, (folder, (facts, _, job, tensors)) in zip(sites, found.items(), strict=True):
        kept.require_base(site.spec.backbone, facts, job)
        kept.restore_kept(site.model, site.optimizer, tensors, folder)
    after = _look(sites, questions, prompts)
    plain = {"before": dict(before.scores), "after": dict(after.scores)}
    write_text(results / "unified.json", json.dumps(plain, indent=1, allow_nan=False))
    console.print(_table(before, after))
    console.print(_shown_right(before, after))
    figure = _figure([q for _, q in questions], prompts, before, after)
    write_atomically(results / "unified.png", lambda part: figure.savefig(part, format="png", dpi=110))


def _look(
    sites: Sequence[UnifiedSite], questions: Sequence[tuple[UnifiedSite, Question]], prompts: Sequence[Prompt]
) -> Shown:
    """Ask a model; GenEval's pictures are made once, by the first site with prompts: sites differ in data only."""
    scores, first = {}, next((site for site in sites if site.prompts), None)
    for site in sites:
        asked = site if site is first else dataclasses.replace(site, prompts=())
        scores[site.name] = asked.evaluate("test")
    answers = []
    for site, question in questions:
        seen = site.model.unified.see([open_image(Picture(question.image))])
        answers += site.model.unified.understand(seen, [question.text])
    answered = [answer == question.answer for answer, (_, question) in zip(answers, questions, strict=True)]
    pictures: list[Image] = []
    drawn: list[bool] = []
    if first is not None:
        draws = derive_generator(first.job.seed, "figure", "pictures")
        pictures = first.model.unified.generate([prompt.text for prompt in prompts], draws)
        drawn = [fault(*pair, first.detector) is None for pair in zip(pictures, prompts, strict=True)]
    return Shown(scores, answers, answered, pictures, drawn)


def _chosen(sites: Sequence[UnifiedSite]) -> list[tuple[UnifiedSite, Question]]:
    """Draw as many test questions of every site, by the job's seed."""
    found = []
    for site in sites:
        questions = site.data["test"].items.questions
        draws = derive_generator(site.job.seed, site.name, "figure")
        order = torch.randperm(len(questions), generator=draws).tolist()
        found += [(site, questions[i]) for i in order[: max(1, _QUESTIONS // len(sites))]]
    return found[:_QUESTIONS]


def _prompts(sites: Sequence[UnifiedSite]) -> list[Prompt]:
    """Draw prompts of the first site that has some, by the job's seed: of every skill before a second of any."""
    first = next((site for site in sites if site.prompts), None)
    if first is None:
        return []
    order = torch.randperm(len(first.prompts), generator=derive_generator(first.job.seed, "figure")).tolist()
    turns = Counter[str]()

    def turn(prompt: Prompt) -> int:
        turns[prompt.tag] += 1
        return turns[prompt.tag]

    return sorted((first.prompts[i] for i in order), key=turn)[:_PICTURES]


def _shown_right(before: Shown, after: Shown) -> str:
    """Say how many of the figure's answers and pictures are right, before and after."""
    counted = (("answers", before.answered, after.answered), ("pictures", before.drawn, after.drawn))
    parts = [f"{sum(a)} of {len(a)} {what} right before, {sum(b)} after" for what, a, b in counted if a]
    return f"In unified.png, drawn by the job's seed: {'; '.join(parts)}"


def _table(before: Shown, after: Shown) -> Table:
    table = Table(title="Unified sites: test questions of their own, and pictures made from public prompts")
    for column in ("site", "what", "before", "after"):
        table.add_column(column, justify="left" if column in ("site", "what") else "right")
    for site, scores in after.scores.items():
        for name, score in scores.items():
            if not name.endswith("loss"):
                skill = name.removeprefix("geneval_").replace("_", " ")
                shown = f"{before.scores[site][name]:.2f}", f"{score:.2f}"
                table.add_row("all" if "geneval" in name else site, _NAMES.get(name, f"GenEval, {skill}"), *shown)
    return table


def _figure(questions: Sequence[Question], prompts: Sequence[Prompt], before: Shown, after: Shown) -> Figure:
    figure = Figure(figsize=(15, 3.2 + 4.6 * bool(prompts)), layout="constrained")
    upper, *lower = figure.subfigures(
        1 + bool(prompts), 1, squeeze=False, height_ratios=[1, 1.3][: 1 + bool(prompts)]
    )[:, 0]
    upper.suptitle("questions of the sites' test pictures: answers before and after")
    for axes, question, old, new, right in zip(
        upper.subplots(1, _QUESTIONS), questions, before.answers, after.answers, after.answered, strict=False
    ):
        axes.imshow(open_image(Picture(question.image)))
        axes.set_title(question.text, fontsize=8)
        axes.set_xlabel(
            f"before: {old[:20]}\nafter: {new[:20]}\ntruth: {question.answer}", fontsize=8, color=_COLOURS[right]
        )
        axes.set(xticks=[], yticks=[])
    if prompts:
        lower[0].suptitle("pictures made from words, before and after")
        grid = lower[0].subplots(2, len(prompts), squeeze=False)
        for row, (shown, what) in zip(grid, ((before, "before"), (after, "after")), strict=True):
            for axes, prompt, picture, right in zip(row, prompts, shown.pictures, shown.drawn, strict=True):
                axes.imshow(picture, interpolation="nearest")
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set(color=_COLOURS[right], linewidth=2)
                if what == "before":
                    axes.set_title(_folded(prompt.text.removeprefix("a photo of ")), fontsize=8)
            row[0].set_ylabel(what)
    return figure


def _folded(text: str) -> str:
    """Fold a text into two lines where it is long."""
    words = text.split()
    return (
        text if len(text) < 20 else f"{' '.join(words[: len(words) // 2])}\n{' '.join(words[len(words) // 2 :])}"
    )
