"""A site opened, of whatever kind its own file says."""

from __future__ import annotations

from pathlib import Path

import torch

from fedgram.config.job import JobConfig
from fedgram.config.site import UNIFIED, SiteConfig
from fedgram.errors import CheckpointError, ConfigError
from fedgram.methods import method_of, require_allowed
from fedgram.model import tasks
from fedgram.model.unified.base import UnifiedModel
from fedgram.sites.base import Site
from fedgram.sites.draws import require_secret
from fedgram.sites.kept import read_kept, read_statistics, require_base, restore_kept
from fedgram.sites.reopening import reopen_single
from fedgram.sites.single import SingleSite, open_single
from fedgram.sites.state import make_optimizer


def open_site(name: str, config: SiteConfig, job: JobConfig) -> Site:
    """Open a site to train; the parts of unified models are imported only where there is one.

    Raises:
        ConfigError: the site does not allow the job's method or its mode, or a setting is wrong.
        DataError, AnchorError, BackboneError: see the part that is wrong.
    """
    require_allowed(name, config, job)
    require_mode(name, config, job)
    if config.threads:
        torch.set_num_threads(config.threads)
    if config.modality != UNIFIED:
        return open_single(name, config, job)
    from fedgram.sites.unified import open_unified

    return open_unified(name, config, job)


def require_mode(name: str, config: SiteConfig, job: JobConfig) -> None:
    """Require that a job is masked where the site's own file says so, and that the site can be masked.

    Raises:
        ConfigError: it is not; or it is, and the site has a secret that can be guessed, or shares what goes to no
            sum over all.
    """
    masked = job.aggregation.masked
    if "masked" in config.require and not masked:
        raise ConfigError(
            "a job whose server sees each site's numbers",
            where=f"{name}: require",
            expected="a masked job",
            remedy="run the job with aggregation.masked, or take 'masked' out of require in the site's file",
        )
    if masked and config.share:
        raise ConfigError(
            f"{list(config.share)} in a masked job",
            where=f"{name}: share",
            expected="nothing: a masked sum is over all sites",
            remedy="take share out of the site's file for this job",
        )
    if masked and config.secret is not None:  # else one is drawn; by a public key a guess can be checked
        require_secret(name, config, "in a masked job")


def reopen_site(folder: Path) -> SingleSite:
    """Open a site of one modality, or of two, with the model it ended with.

    Raises:
        CheckpointError: no result there, a damaged one, or a tokenizer that is not the one of the run.
        FedgramError: the site cannot be opened any more (base or anchors edited, training data moved that the
            tokenizer is fitted on …).
    """
    facts, config, job, tensors = read_kept(folder)
    if config.unified is not None:
        raise CheckpointError("the result of a unified site", where=folder, remedy="fedgram.load_unified opens it")
    names = [repr(config.tokenizer), *([f"{config.bridge.tokenizer!r} of the bridge"] if config.bridge else [])]
    if "task" not in facts or len(facts.get("tokenizers", ())) != len(names):
        raise CheckpointError(f"damaged (no task, or not {len(names)} tokenizers)", where=folder)
    statistics = read_statistics(folder, len(names))
    site = reopen_single(facts["site"], config, job, tasks.from_facts(facts["task"], str(folder)), statistics)
    require_base(site.spec.backbone, facts, job)
    for name, found, expected in zip(names, site.token_prints(), facts["tokenizers"], strict=True):
        if found != expected:
            raise CheckpointError(
                "the tokenizer gives other tokens than in the run",
                where=f"{site.name}: tokenizer {name}",
                remedy="restore its weights, and the training data if it is fitted on them, or run the job again",
            )
    restore_kept(site.model, site.optimizer, tensors, folder)
    return site


def reopen_unified(folder: Path) -> UnifiedModel:
    """Load the unified model that a site ended with; the site's data are not needed.

    Raises:
        CheckpointError: no result there, or a damaged one.
        ConfigError: the result of a site of one modality.
        BackboneError: the base cannot be loaded any more, or has other weights.
    """
    from fedgram.sites.unified import build_unified

    facts, config, job, tensors = read_kept(folder)
    config.require_unified()
    model, spec = build_unified(config, job, method_of(job))
    require_base(spec.backbone, facts, job)
    restore_kept(model, make_optimizer(model, job), tensors, folder)
    return model.unified
