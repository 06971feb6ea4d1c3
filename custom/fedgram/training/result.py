"""What a site keeps after a run: its adapter, head and m beside the shared B, enough to use the model."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from safetensors.torch import load_file

from fedgram import __version__
from fedgram.config import JobConfig
from fedgram.errors import CheckpointError
from fedgram.files import write_tensors, write_text
from fedgram.model import lora
from fedgram.settings import from_dict, to_dict
from fedgram.sitefile import SiteConfig
from fedgram.training.site import Site, open_site
from fedgram.training.state import restore, snapshot


def save(folder: Path, site: Site) -> None:
    """Write a site's model as it is now.

    ``adapter/`` is a stock PEFT checkpoint with the shared B and this site's own m; ``local.safetensors`` the
    linear adapter, the head and m; ``site.json`` what is needed to open the site again. All of it stays here.
    """
    direction = lora.direction(site.model.transformer)
    settings = site.job.adapter
    lora.save_adapter(
        folder / "adapter",
        direction=direction,
        magnitude=lora.magnitude(site.model.transformer),
        shapes=site.spec.shapes,
        seed=site.job.seed,
        rank=settings.rank,
        alpha=settings.alpha,
        base_model=site.job.backbone.name,
    )
    local = {k: v for k, v in snapshot(site.model, site.optimizer).items() if not k.startswith("optimizer.")}
    shared = {f"direction.{k}": v for k, v in direction.items()}
    write_tensors(folder / "local.safetensors", {**local, **shared})
    facts = {
        "fedgram": __version__,
        "site": site.name,
        "site_config": dataclasses.asdict(site.config),
        "job": to_dict(site.job),
    }
    write_text(folder / "site.json", json.dumps(facts, indent=2))


def load(folder: Path) -> Site:
    """Open a site again with the model it ended with. Its data must lie where the site file says.

    Raises:
        CheckpointError: no result there, or a damaged one.
        FedgramError: the site cannot be opened any more (data moved, anchors edited …).
    """
    path = folder / "site.json"
    if not path.is_file():
        raise CheckpointError("no result of a site", where=folder, expected="a folder with site.json")
    try:
        facts = json.loads(path.read_text())
        tensors = load_file(folder / "local.safetensors")
        name = facts["site"]
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"damaged ({error})", where=path) from error
    config = from_dict(SiteConfig, facts["site_config"], str(path))
    site = open_site(name, config, from_dict(JobConfig, facts["job"], str(path)))
    direction = {k.removeprefix("direction."): v for k, v in tensors.items() if k.startswith("direction.")}
    lora.load_direction(site.model.transformer, direction)
    restore(site.model, site.optimizer, {k: v for k, v in tensors.items() if not k.startswith("direction.")})
    return site
