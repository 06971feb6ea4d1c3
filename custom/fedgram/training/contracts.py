"""The checks that a reply must pass before it counts: what leaves a site, seen from the server."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from math import inf, prod

import torch
from torch import Tensor

from fedgram import __version__
from fedgram.config.job import JobConfig
from fedgram.core.directory import LARGEST, LONGEST_NAME, MOST_CONCEPTS, is_name
from fedgram.core.gram import check_gram
from fedgram.errors import UpdateRejected
from fedgram.records import (
    WIRE_DTYPE,
    GlobalState,
    ModelSpec,
    SiteEvaluation,
    SiteIntroduction,
    SiteUpdate,
    of_groups,
)

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_SHARED = 2**26  # numbers of an adapter and a head: what a site says it has, the server keeps


def check_introduction(reply: SiteIntroduction, job: JobConfig) -> None:
    """Raise UpdateRejected unless the site runs this version on this anchor set with a valid Gram."""
    if reply.version != __version__:
        _reject(reply.site, f"fedgram {reply.version[:20]!r}", f"fedgram {__version__!r}, as at the server")
    _check_anchors(reply.site, reply.anchors_sha256, job)
    if not is_name(reply.modality) or "/" in reply.modality:
        _reject(reply.site, f"a modality named {reply.modality[:20]!r}", "printable characters, none of them '/'")
    if any(min(shape) < 1 for shape in reply.spec.shapes.values()):
        _reject(reply.site, "layer shapes", "(d_out, r, d_in) by layer, each 1 or more")
    _check_groups(reply)
    _check_privacy(reply)
    if not job.aggregation.masked:
        _check_geometry(reply.site, reply.gram, reply.slots, job.anchors.slots)
    elif reply.gram.numel() or reply.samples or reply.groups:
        _reject(reply.site, "G, samples or groups in a masked job", "none: they are summed under masks")


def check_base_magnitudes(reply: SiteIntroduction, spec: ModelSpec, job: JobConfig) -> None:
    """Raise UpdateRejected unless a site sends the norms of all rows where the job averages m, and else none.

    Args:
        spec: as most sites have it.
    """
    rows = {k: shape[:1] for k, shape in spec.shapes.items()} if job.adapter.shares_magnitude else {}
    _check_tensors(reply.site, "m", reply.m, rows, lambda _: torch.float32)
    if any((m < 0).any() for m in reply.m.values()):
        _reject(reply.site, "m of the base with values below 0", "norms of the base's rows")


def check_magnitudes(where: str, magnitudes: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> None:
    """Raise UpdateRejected unless every m is within (m₀ − mean m₀) / 4 … 4 (m₀ + mean m₀) of its layer's base.

    The means give a row room that is 0 in the base.

    Args:
        where: the site, or the sum, that has them.
        magnitudes: m by layer, (d_out,).
        base: m₀ likewise.
    """
    for name, m in magnitudes.items():
        usual = base[name].mean()
        low, high = (base[name] - usual) / 4, 4 * (base[name] + usual)
        if (m < low).any() or (m > high).any():
            got = f"m of {name!r} from {m.min().item():.3g} to {m.max().item():.3g}"
            _reject(where, got, f"within {low.min().item():.3g} … {high.max().item():.3g}, near the base's")


def check_update(
    reply: SiteUpdate,
    state: GlobalState,
    job: JobConfig,
    sends: Mapping[str, tuple[int, ...]],
    groups: Mapping[str, str],
) -> None:
    """Raise UpdateRejected unless names, shapes, types, values, norm, weight and Gram are all in order.

    Args:
        sends: shapes of what the method sends besides B and m.
        groups: of the site, by part.
    """
    if reply.round != state.round + 1:
        _reject(reply.site, f"a reply to round {reply.round}", f"round {state.round + 1}")
    _check_anchors(reply.site, reply.anchors_sha256, job)
    shapes = {k: tuple(b.shape) for k, b in state.B.items()}
    _check_tensors(reply.site, "B", reply.delta_B, shapes, lambda _: WIRE_DTYPE)
    rows = {k: shape[:1] for k, shape in shapes.items()} if job.adapter.shares_magnitude else {}
    _check_tensors(reply.site, "m", reply.m, rows, lambda _: torch.float32)
    _check_tensors(reply.site, "extra", reply.extra, sends, wire_dtype)
    if reply.shared and not groups:
        expected = "nothing: the site was not there in round 0, or no other is of its kind"
        _reject(reply.site, "a change of adapter or head from a site in no group", expected)
    within = {k: tuple(u.shape) for k, u in of_groups(groups, state.shared).items()}
    _check_tensors(reply.site, "shared", reply.shared, within, lambda _: WIRE_DTYPE)
    norm = update_norm(reply.delta_B, reply.extra, reply.shared)
    if norm > job.aggregation.max_update_norm:
        _reject(reply.site, f"an update of norm {norm:.3g}", f"at most {job.aggregation.max_update_norm:.3g}")
    _check_geometry(reply.site, reply.gram, reply.slots, job.anchors.slots)
    _check_weight(reply, job)
    if reply.restarts < 0:
        _reject(reply.site, f"{reply.restarts} restarts", "0 or more")
    _check_metrics(reply.site, reply.metrics, set(job.metrics))


def check_evaluation(reply: SiteEvaluation, job: JobConfig) -> None:
    """Raise UpdateRejected unless metrics, Gram over known slots and prototypes of concepts are all in order.

    Of a masked job it holds nothing.
    """
    if job.aggregation.masked:
        if reply.metrics or reply.gram.numel() or reply.slots or reply.heldout_slots or reply.prototypes:
            _reject(reply.site, "numbers of one site in a masked job", "none: the site keeps them")
        return
    heldout = job.heldout.slots if job.heldout else 0
    slots = (*reply.slots, *(job.anchors.slots + slot for slot in reply.heldout_slots))
    _check_geometry(reply.site, reply.gram, slots, job.anchors.slots + heldout)
    _check_prototypes(reply)
    _check_metrics(reply.site, reply.metrics, set(job.metrics))


def wire_dtype(name: str) -> torch.dtype:
    """The type of a tensor among the extras on its way to the server: bf16 for factors of LoRA, else float32."""
    return WIRE_DTYPE if name.startswith(("A/", "B/")) else torch.float32


def update_norm(*sent: Mapping[str, Tensor]) -> float:
    """The norm ‖·‖_F of all that a site sends but m and G, in float64; ‖ΔB‖_F in GeoLoRA and GeoDoRA."""
    return sum(t.double().square().sum().item() for part in sent for t in part.values()) ** 0.5


def _check_groups(reply: SiteIntroduction) -> None:
    """Groups are named by sha256, and every part that has one says its shapes, which are of a size to be kept."""
    parts = {name.partition("/")[0] for name in reply.shared_shapes}
    named = all(_SHA256.fullmatch(group) for group in reply.groups.values())
    if not named or not reply.groups.keys() == parts <= {"adapter", "head"}:
        _reject(reply.site, "groups that are none", "adapter or head, each with a sha256 and its shapes")
    shapes = reply.shared_shapes.values()
    if any(min(shape, default=1) < 1 for shape in shapes) or sum(map(prod, shapes)) > _MOST_SHARED:
        _reject(reply.site, "shapes of adapter and head", f"each 1 or more, at most {_MOST_SHARED} numbers in all")


def _check_privacy(reply: SiteIntroduction) -> None:
    """Refuse a promise that is neither ε > 0 with δ in (0, 1) nor none at all."""
    epsilon, delta = reply.privacy.get("epsilon", 1.0), reply.privacy.get("delta", 0.5)
    if reply.privacy.keys() not in (set(), {"epsilon", "delta"}) or not (0 < epsilon < inf and 0 < delta < 1):
        _reject(reply.site, "a promise of privacy that is none", "epsilon > 0 and delta in (0, 1), or nothing")


def _check_anchors(site: str, anchors: str, job: JobConfig) -> None:
    if anchors != job.anchors.sha256:
        _reject(site, f"anchor set {anchors[:12]!r}…", f"anchor set {job.anchors.sha256[:12]!r}…")


def _check_tensors(
    site: str,
    symbol: str,
    got: Mapping[str, Tensor],
    expected: Mapping[str, tuple[int, ...]],
    dtype_of: Callable[[str], torch.dtype],
) -> None:
    if got.keys() != expected.keys():
        names = sorted(got.keys() ^ expected.keys())
        _reject(site, f"{symbol}: {len(names)} layer names differ, among them {names[0]!r}", "the job's layers")
    for name, tensor in got.items():
        dtype = dtype_of(name)
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != expected[name] or tensor.dtype != dtype:
            shape, kind = getattr(tensor, "shape", None), getattr(tensor, "dtype", type(tensor).__name__)
            _reject(site, f"{symbol} of {name!r}: {kind} {shape}", f"{dtype} {expected[name]}")
        if not torch.isfinite(tensor).all():
            _reject(site, f"{symbol} of {name!r} has values that are not finite", "finite values")


def _check_geometry(site: str, gram: Tensor, slots: tuple[int, ...], limit: int) -> None:
    ascending = all(a < b for a, b in pairwise(slots))
    if not slots or not ascending or slots[0] < 0 or slots[-1] >= limit:
        _reject(site, "anchor slots out of range or order", f"ascending, within 0 … {limit - 1}")
    if not isinstance(gram, Tensor) or tuple(gram.shape) != (len(slots), len(slots)):
        _reject(site, f"Gram of shape {getattr(gram, 'shape', None)}", f"({len(slots)}, {len(slots)})")
    fault = check_gram(gram)
    if fault:
        _reject(site, fault, "cosines over the anchors")


def _check_prototypes(reply: SiteEvaluation) -> None:
    found, shape = reply.prototypes, (len(reply.slots),)
    if len(found) > MOST_CONCEPTS:
        _reject(reply.site, f"prototypes of {len(found)} concepts", f"at most {MOST_CONCEPTS}")
    bad = [number for number, name in enumerate(found) if not is_name(name)]
    if bad:
        _reject(reply.site, f"the name of concept {bad[0]}", f"1 to {LONGEST_NAME} printable characters")
    _check_tensors(reply.site, "prototype", found, dict.fromkeys(found, shape), lambda _: torch.float32)
    large = [name for name, values in found.items() if (values.abs() > LARGEST).any()]
    if large:
        _reject(reply.site, f"the prototype of {large[0]!r}: numbers that are no cosines", f"|x| ≤ {LARGEST:g}")
    if found:
        if len(reply.slots) < 2:
            _reject(reply.site, "prototypes over one anchor", "two or more, else they have no place")
        _check_geometry(reply.site, reply.token_gram, reply.slots, reply.slots[-1] + 1)
    elif tuple(reply.token_gram.shape) != (0, 0):
        _reject(reply.site, f"a Gram {tuple(reply.token_gram.shape)} of no prototypes", "(0, 0)")


def largest_weight(job: JobConfig, samples: float = inf) -> float:
    """The largest weight p_k that a site with so many samples may have; the least is 1."""
    return {"precision": 1 / job.aggregation.u_min, "samples": samples, "uniform": 1.0}[job.aggregation.weights]


def _check_weight(reply: SiteUpdate, job: JobConfig) -> None:
    largest = largest_weight(job, float(reply.samples))
    if reply.samples < 1 or not 1.0 - 1e-6 <= reply.weight <= largest * (1 + 1e-6):
        _reject(reply.site, f"weight {reply.weight} from {reply.samples} samples", f"within 1 … {largest:g}")


def _check_metrics(site: str, metrics: Mapping[str, float], allowed: set[str]) -> None:
    unknown = sorted(metrics.keys() - allowed)
    if unknown:
        _reject(site, f"metrics that the job does not name: {unknown[:3]}", ", ".join(sorted(allowed)))
    for name, value in metrics.items():
        if not isinstance(value, float) or value != value or abs(value) == float("inf"):
            _reject(site, f"metric {name!r} is not a finite number", "a finite number")


def _reject(site: str, problem: str, expected: str) -> None:
    raise UpdateRejected(problem, where=site, expected=expected)
