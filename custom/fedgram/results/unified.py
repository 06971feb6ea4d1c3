"""The result of a unified site, written after a run, and opened as a model that is ready to be asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fedgram.methods import method_of
from fedgram.model import card as modelcard
from fedgram.model.unified.base import UnifiedModel
from fedgram.results.trained import find_result
from fedgram.sites import saved as result
from fedgram.sites.state import make_optimizer
from fedgram.sites.unified import UnifiedSite, build_model


@result.save.register
def save(site: UnifiedSite, folder: Path, metrics: Mapping[str, float]) -> None:
    """Save a unified site as :func:`fedgram.sites.saved.save` does: it has nothing of its own but the update."""
    result.write_trained(site, folder, {})
    modelcard.write_site_card(
        folder / "adapter",
        job=site.job,
        backbone=site.spec.backbone,
        modality=site.modality.name,
        task="answering questions about pictures, and making pictures",
        counts={split: len(data) for split, data in site.data.items()},
        classes=(),
        metrics=metrics,
    )


def load(folder: str | Path, site: str | None = None) -> UnifiedModel:
    """Load the unified model that a site ended with; the site's data are not needed.

    Args:
        folder: ``result`` of a site, or a folder above it.
        site: which one, where there are several.

    Raises:
        CheckpointError: no such result, several of them, or a damaged one.
        BackboneError: the base cannot be loaded any more, or has other weights.
    """
    folder = find_result(Path(folder).expanduser(), site)
    facts, config, job, tensors = result.read_trained(folder)
    config.require_unified()
    model, spec = build_model(config, job, method_of(job))
    result.require_base(spec.backbone, facts, job)
    result.restore_trained(model, make_optimizer(model, job), tensors, folder)
    return model.unified
