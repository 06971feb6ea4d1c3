"""One run of FedUMM on rendered scenes: sites are dealt, they train, and all models are tested alike."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from statistics import fmean

import torch
from fedgram.config.job import JobConfig
from fedgram.config.site import SiteConfig, UnifiedConfig
from fedgram.config.strict import from_dict
from fedgram.data.captions import TABLE, read_captions
from fedgram.data.prompts import Prompt
from fedgram.data.vqa import read_vqa
from fedgram.flare.jobs import settings
from fedgram.methods import METHODS
from fedgram.model.unified.janus import Janus
from fedgram.sites.opening import open_site
from fedgram.sites.unified import UnifiedSite
from fedgram.sites.unified_data import Items, UnifiedData, look
from fedgram.training.loop import run_federation
from fedgram.training.session import SiteSession

from research.evidence.federations.once import once
from research.fedumm.full import fine_tune
from research.fedumm.pictures import ceiling, made
from research.partition.shares import deal, write_shares
from research.scenes.data import write_scene_captions, write_scene_questions
from research.scenes.demo import WORLD
from research.scenes.prompts import make_prompts

BATCH = 8  # samples of each task in a step
FULL = "full"
GENERATION_WEIGHT = 10.0  # as in the demo's site files
_PIXELS, _PICTURES = 32, 24  # pictures made for each skill
_TRAIN, _TEST = (1200, 4800), (300, 300)  # questions and captions
_PUBLIC = 1000  # seeds from here on draw the test, which no site sees
_JUDGED = 4  # sites whose own models are tested, where every site has its own


@dataclass(frozen=True)
class Trial:
    """A run to be carried out; its fields are the first columns of the table of results.

    Attributes:
        clients: sites; 1 is central training.
        alpha: of the Dirichlet over the shapes in the pictures.
        method: of the job; ``geo`` is GeoLoRA, with ``dora`` GeoDoRA; :data:`FULL` is full fine-tuning.
        rank: r; nothing to full fine-tuning.
        steps: of all sites together; 0 is the public base, untrained.
        rounds: in which they are divided.
        momentum: β of the server's step on the mean change.
        rate: the learning rate, in thousandths.
        seed: of data, partition and training.
        dora: whether magnitudes train.
        without: what is left out: ``nothing``, ``rehearsal``, in it the ``drift`` from the base, ``falling``
            rates, or the ``weight`` of pictures.
    """

    clients: int
    alpha: float
    method: str
    rank: int
    steps: int
    rounds: int
    momentum: float
    rate: float
    seed: int
    dora: bool = False
    without: str = "nothing"


def run(trial: Trial, folder: Path) -> dict[str, float]:
    """Train, and test on scenes that nobody trained on: the row of one trial.

    Args:
        folder: of the drawn data; what is there is not drawn again.
    """
    started = time.perf_counter()
    job, sites = open_sites(trial, folder)
    costs = federate(trial, sites, job, started) if trial.steps else {}
    items, prompts = drawn_test(folder, trial.seed)
    own = trial.method == "local" or trial.dora or trial.method == "fedsa"
    judged = [*sites.values()][: _JUDGED if own else 1]
    data = look(items, judged[0].model.unified)
    scores = [judge(site, data) | made(site, prompts) for site in judged]
    row = {name: fmean(score[name] for score in scores) for name in scores[0]} | costs
    model = judged[0].model.unified
    return row | ceiling(model, WORLD, trial.seed) if not trial.steps and isinstance(model, Janus) else row


def open_sites(trial: Trial, folder: Path) -> tuple[JobConfig, dict[str, UnifiedSite]]:
    """The job of a trial, and its sites over their shares of the data."""
    job = job_of(trial)
    configs = {name: config_of(trial, folder, path) for name, path in _shares(trial, folder).items()}
    return job, {name: _open(name, config, job) for name, config in configs.items()}


def federate(trial: Trial, sites: Mapping[str, UnifiedSite], job: JobConfig, started: float) -> dict[str, float]:
    """Train the sites' models in place: bytes that a site sends in a round, and seconds since ``started``."""
    sent = fine_tune(sites, job) if trial.method == FULL else _with_adapters(sites, job)
    return {"bytes up": sent, "seconds": time.perf_counter() - started}


def _with_adapters(sites: Mapping[str, UnifiedSite], job: JobConfig) -> float:
    with tempfile.TemporaryDirectory() as temporary:
        sessions = {name: SiteSession(site, Path(temporary, name)) for name, site in sites.items()}
        outcome = run_federation(sessions, job, Path(temporary, "server"))
    return fmean(size for record in outcome.server.records for size in record.payload_bytes.values())


def _open(name: str, config: SiteConfig, job: JobConfig) -> UnifiedSite:
    site = open_site(name, config, job)
    if not isinstance(site, UnifiedSite):
        raise TypeError(type(site).__name__)
    nothing = look(Items((), ()), site.model.unified)  # nobody looks at what sites measure of their own data
    return replace(site, data={**site.data, "validation": nothing, "test": nothing})


def judge(site: UnifiedSite, data: UnifiedData) -> dict[str, float]:
    """A site's soft accuracy and both losses."""
    return replace(site, data={**site.data, "test": data}, prompts=()).evaluate("test")


def job_of(trial: Trial) -> JobConfig:
    """The packaged job with the settings of a trial."""
    plain = settings("fedumm")
    steps = max(1, trial.steps // (trial.clients * trial.rounds))
    plain["training"] |= {"rounds": trial.rounds, "local_steps": steps, "batch_size": BATCH}
    plain["training"]["learning_rate"] = trial.rate / 1000
    if trial.without == "falling":
        plain["training"]["final_rate"] = 1.0
    plain["adapter"] |= {"rank": trial.rank, "alpha": 2.0 * trial.rank, "dora": trial.dora}
    plain |= {
        "method": {"name": "fedit" if trial.method == FULL else trial.method},
        "seed": trial.seed,
        "baseline": False,
    }
    plain["aggregation"] |= {"min_sites": 1, "server_momentum": trial.momentum}
    return from_dict(JobConfig, plain, "fedumm study")


def config_of(trial: Trial, folder: Path, share: Path) -> SiteConfig:
    """The site file of a site of a trial over its share of the data."""
    return SiteConfig(
        secret="",
        modality="unified",
        data="",
        tokenizer="",
        anchors="demo:scenes/anchors/train",
        heldout="demo:scenes/anchors/heldout",
        methods=tuple(METHODS),
        unified=UnifiedConfig(
            questions=str(share),
            captions=str(share / TABLE),
            generation_weight=1.0 if trial.without == "weight" else GENERATION_WEIGHT,
            drift_weight=0.0 if trial.without == "drift" else UnifiedConfig.drift_weight,
            rehearsal=None if trial.without == "rehearsal" else "demo:fedumm/rehearsal/captions.jsonl",
        ),
        device="cpu",
        threads=1,
        cache=str(folder / "cache"),
    )


def _shares(trial: Trial, folder: Path) -> Mapping[str, Path]:
    """The folder of each site, dealt once for each partition."""

    def write(fresh: Path) -> None:
        fresh.mkdir()
        drawn = _drawn(folder, trial.seed, _TRAIN)
        questions, captions = read_vqa(drawn / "vqa"), read_captions(drawn / "captions" / TABLE)
        write_shares(fresh, deal(questions, captions, trial.clients, trial.alpha, trial.seed, "concept"))

    target = once(folder / f"shares-{trial.clients}-{trial.alpha}-{trial.seed}", write)
    return {path.name: path for path in sorted(target.iterdir()) if path.is_dir()}


def drawn_test(folder: Path, seed: int) -> tuple[Items, list[Prompt]]:
    """The test: scenes and prompts of another seed, alike for every run of this one."""
    drawn = _drawn(folder, _PUBLIC + seed, _TEST)
    items = Items(tuple(read_vqa(drawn / "vqa")), tuple(read_captions(drawn / "captions" / TABLE)))
    return items, _evenly(make_prompts(WORLD, _PICTURES, _PUBLIC + seed))


def _evenly(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts, so often that every skill has as many pictures: several of each prompt of a skill with few."""
    skills: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        skills.setdefault(prompt.tag, []).append(prompt)
    return [prompt for found in skills.values() for prompt in islice(cycle(found), _PICTURES)]


def _drawn(folder: Path, seed: int, counts: tuple[int, int]) -> Path:
    def write(fresh: Path) -> None:
        fresh.mkdir()
        write_scene_questions(fresh / "vqa", "train2014", counts[0], 2 * seed, WORLD, pixels=_PIXELS)
        write_scene_captions(fresh / "captions", counts[1], 2 * seed + 1, WORLD, pixels=_PIXELS)

    return once(folder / f"drawn-{seed}", write)


def quiet() -> None:
    """Give a run one core."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
