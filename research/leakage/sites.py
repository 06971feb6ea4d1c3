"""The sites that are attacked: opened once, and stand-ins for it that have other samples and other secrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from fedgram.config.job import JobConfig
from fedgram.config.site import SiteConfig
from fedgram.config.strict import from_dict, to_dict
from fedgram.flare.jobs import settings
from fedgram.model.site_model import SiteModel, TokenAdapter, embedding_scale, hidden_width, width
from fedgram.records import GlobalState, LabelledTokens, SiteUpdate
from fedgram.sites.base import derive_generator
from fedgram.sites.secret import private_generator
from fedgram.sites.single import SingleSite, open_single
from fedgram.sites.state import make_optimizer, snapshot
from fedgram.training import rounds
from fedgram.training.server import Round, ServerState, agree
from torch import Tensor

from research.evidence.federations import Federation, synthetic
from research.leakage.noise import promised, reply, with_noise

GROUPS = ("adapter", "head")
SITES = 4  # whose updates are summed where the server sees their sum alone
_LAYERS = 1  # of the made base
_NO_LOSSES = {"geometry_weight": 0.0, "concept_weight": 0.0, "anchor_labels": False}
_ANCHORS = "demo:carnivora/anchors/train"


@dataclass(frozen=True)
class Setup:
    """The choices of an attack: the site's and, as the server writes the job, the attacker's own.

    Attributes:
        shares: whether the site shares adapter and head with its like, so that all know where they start.
        epsilon: ε of the site's differential privacy; 0 is none.
        training: settings of the job's training.
        seed: of the data, the job and all draws.
    """

    shares: bool
    epsilon: float
    training: tuple[tuple[str, Any], ...]
    seed: int


def secret_of(*parts: object) -> str:
    """A secret by which a stand-in draws, 64 characters."""
    return sha256("|".join(map(str, parts)).encode()).hexdigest()


def made(setup: Setup, folder: Path) -> SingleSite:
    """The one site of the modality ``sonar`` of the federation ``synthetic``: 360 samples to train on or so."""
    federation = _federation(folder, setup.seed)
    job = _job("geolora", setup, anchors=to_dict(federation.anchors), heldout=to_dict(federation.heldout))
    job = replace(job, backbone=replace(federation.backbone, layers=_LAYERS))
    return _opened("sonar-1", federation.sites["sonar-1"], job, setup)


@lru_cache(maxsize=1)
def _federation(folder: Path, seed: int) -> Federation:
    return synthetic.build(folder / "synthetic", sites=SITES, seed=seed)


def texts(setup: Setup, folder: Path) -> SingleSite:
    """A site with the texts of the demo, over the demo's own base: two layers of MiniLM."""
    config = SiteConfig(
        modality="text",
        data="demo:carnivora/text",
        tokenizer="minilm",
        anchors=_ANCHORS,
        device="cpu",
        threads=1,
        cache=str(folder / "cache"),
    )
    return _opened("text-1", config, _job("few-labels", setup, heldout=None), setup)


def stand_in(site: SingleSite, rows: Tensor, secret: str, name: str = "") -> SingleSite:
    """A site of the same kind that has some of the samples, and draws all that is random from a secret of its own.

    Its transformer is that of the site that it stands in for, as every round begins with the global B.

    Args:
        rows: (n,) int64, of the training samples.
    """
    name, config = name or site.name, replace(site.config, secret=secret)
    data = {"train": only(site.data["train"], rows)}
    data["fit"] = data["train"]
    data |= {part: only(site.data[part], rows[:0]) for part in ("validation", "test")}
    own, job, groups = private_generator(name, config, site.job, "local"), site.job, site.groups
    drawn = {part: derive_generator(job.seed, group, part) for part, group in groups.items()}
    transformer: Any = site.model.transformer
    public = "adapter" in groups or site.config.privacy is not None
    standard = site.anchors.tokens if public else data["fit"].tokens
    scale = embedding_scale(transformer)
    adapter = TokenAdapter(standard, width(transformer), scale, drawn.get("adapter", own))
    length = standard.values.shape[1]
    head = site.task.head(hidden_width(transformer), length, drawn.get("head", own))
    model = SiteModel([adapter], transformer, head).eval()
    optimizer = make_optimizer(model, job)
    found = replace(site, name=name, config=config, data=data, model=model, optimizer=optimizer)
    rounds.reset(site)  # B = 0
    return promised(replace(found, initial=snapshot(model, optimizer)))


def in_batches(site: SingleSite, size: int) -> SingleSite:
    """The site in a job that asks for batches of another size."""
    training = replace(site.job.training, batch_size=size)
    return replace(site, job=replace(site.job, training=training))


def only(data: LabelledTokens, rows: Tensor) -> LabelledTokens:
    """Some of the samples, each a group by itself."""
    return replace(
        data,
        tokens=data.tokens[rows],
        targets=data.targets[rows],
        concepts=tuple(data.concepts[i] for i in rows.tolist()),
        groups=tuple(str(i) for i in rows.tolist()),
    )


def begin(sites: Sequence[SingleSite]) -> ServerState:
    """The server's state before the first round of these sites."""
    return agree([rounds.introduce(site) for site in sites], sites[0].job)[0]


def federate(sites: Sequence[SingleSite]) -> tuple[list[GlobalState], dict[str, list[SiteUpdate]]]:
    """Train a federation: the states that the server sent, the last one after all rounds, and the replies."""
    state, found = begin(sites), {site.name: [] for site in sites}
    states = [state.state]
    for _ in range(sites[0].job.training.rounds):
        current = Round(state, sites[0].job, found)
        for site in sites:
            found[site.name].append(reply(site, state.state))
            current.add(found[site.name][-1])
        state = current.close()
        states.append(state.state)
    return states, found


def replay(site: SingleSite, states: Sequence[GlobalState]) -> list[SiteUpdate]:
    """The replies of a site to what the server sent to others."""
    return [reply(site, state) for state in states]


def total(sent: Sequence[SiteUpdate]) -> dict[str, Tensor]:
    """The sum of the ΔB of some replies, which is all that a server sees of them behind masks."""
    return {k: torch.stack([u.delta_B[k].double() for u in sent]).sum(0) for k in sent[0].delta_B}


def some(count: int, wanted: int, seed: object) -> list[int]:
    """So many different numbers below ``count``, drawn by a seed."""
    return torch.randperm(count, generator=derive_generator(seed))[:wanted].tolist()


def flat(tensors: Mapping[str, Tensor]) -> Tensor:
    """All numbers of some tensors in a row, in the order of their names, float32."""
    return torch.cat([tensors[name].float().flatten() for name in sorted(tensors)])


def _job(name: str, setup: Setup, **parts: Any) -> JobConfig:
    plain = settings(name)
    plain["training"] = {**plain.get("training", {}), **_NO_LOSSES, **dict(setup.training)}
    plain["aggregation"] = {"weights": "uniform", "clip": 0.0, "max_share": 1.0}
    return from_dict(JobConfig, plain | parts | {"baseline": False, "seed": setup.seed}, name)


def _opened(name: str, config: SiteConfig, job: JobConfig, setup: Setup) -> SingleSite:
    share = GROUPS if setup.shares else ()
    config = replace(config, share=share, secret=secret_of("opened", setup.seed))
    return open_single(name, with_noise(config, setup.epsilon), job)
