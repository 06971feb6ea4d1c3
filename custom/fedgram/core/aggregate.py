"""The server's sums over the sites' replies: weighted means and the Gram consensus, added on arrival.

The sums are those of :mod:`fedgram.core.fixed`, so the order of the sites does not matter to the last bit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

import torch
from torch import Tensor

from fedgram.core.fixed import LARGEST_SUM, FixedPointSum
from fedgram.core.robust import Combine, entry_median
from fedgram.errors import FedgramError

_ROWS = 16  # of all sites' G at once in the median


def capped_weights(weights: Mapping[str, float], max_share: float) -> dict[str, float]:
    """Lower the largest weights to a common ceiling t so that no site holds more than ``max_share`` of the sum.

    t solves t = c · Σ_k min(w_k, t); weights below t stay as they are. With K ≤ 1/c sites no such t exists and
    all weights become equal.

    Args:
        weights: positive weight by site.
        max_share: c in (0, 1].

    Raises:
        FedgramError: c out of range.
    """
    if not 0 < max_share <= 1:
        raise FedgramError(f"max_share = {max_share}", expected="0 < max_share ≤ 1")
    ordered = sorted(weights.values(), reverse=True)
    if len(ordered) * max_share <= 1:
        return dict.fromkeys(weights, min(ordered, default=1.0))
    ceiling = ordered[0]
    for clipped in range(len(ordered)):
        ceiling = max_share * sum(ordered[clipped:]) / (1 - max_share * clipped)
        if ordered[clipped] <= ceiling or max_share * (clipped + 1) > 1 - 1e-9:  # the second implies the first
            break
    return {site: min(weight, ceiling) for site, weight in weights.items()}


class WeightedMean:
    """A mean Σ p_k X_k / Σ p_k over named tensors, added as sites arrive, with no site above ``max_share``.

    Fewer than 1/c sites can exceed a share c, so the ⌊1/c⌋ heaviest updates are held apart until all weights
    are known; everything else is folded into the running sum at once.

    Laws: independent of the order of arrival, bit for bit; weight scaled by a constant changes nothing beyond
    rounding; a site that is absent and a site of weight 0 would be the same (weight 0 itself is refused).

    Resolution is absolute, 2⁻³⁶ of the weighted sum: give weights of order 1 or more. So is the room for it,
    6.7e7, of which every site has an equal part: none can fill it and have the others refused.

    Args:
        shapes: of the tensors by name.
        max_share: the largest share of one site.
        sites: the number of sites that may reply.
        combine: a rule of :mod:`fedgram.core.robust` in the place of the mean. It needs every update, so all are
            held until the end, and then once more in float64: memory is sites × update.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        max_share: float = 1.0,
        *,
        sites: int = 1,
        combine: Combine | None = None,
    ):
        capped_weights({}, max_share)  # validates
        self._combine = combine if shapes else None  # of sites that share no tensor there is nothing to combine
        self._room = LARGEST_SUM / max(sites, 1)
        self._sums = {name: FixedPointSum(shape) for name, shape in shapes.items()}
        self._max_share = max_share
        self._held_apart = int(1 / max_share + 1e-9) if max_share < 1 else 0
        self._heaviest: dict[str, Mapping[str, Tensor]] = {}
        self._closed = False
        self.weights: dict[str, float] = {}

    def add(self, site: str, tensors: Mapping[str, Tensor], weight: float) -> None:
        """Add one site's tensors.

        Raises:
            FedgramError: see :meth:`check`. The mean is then unchanged.
        """
        self.check(site, tensors, weight)
        self.weights[site] = weight
        self._heaviest[site] = tensors
        if self._combine is None and len(self._heaviest) > self._held_apart:
            lightest = min(self._heaviest, key=lambda name: (self.weights[name], name))
            self._fold(self._heaviest.pop(lightest), self.weights[lightest])

    def check(self, site: str, tensors: Mapping[str, Tensor], weight: float) -> None:
        """Check that one site's tensors can be added.

        Raises:
            FedgramError: the round is closed, a second reply of the same site, a weight that is not positive and
                finite, names or shapes other than announced, values that are not finite or too large to add.
        """
        if self._closed:
            raise FedgramError("a reply after the round was closed", where=site)
        if site in self.weights:
            raise FedgramError("a second reply in one round", where=site)
        if not 0 < weight <= self._room:
            raise FedgramError(f"weight {weight}", where=site, expected=f"positive, at most {self._room:.3g}")
        if tensors.keys() != self._sums.keys():
            raise FedgramError(
                f"unexpected tensor names {sorted(tensors.keys() ^ self._sums.keys())[:3]}", where=site
            )
        for name, tensor in tensors.items():
            expected = self._sums[name]
            largest = tensor.abs().max().item() * weight if tensor.numel() else 0.0
            room = largest <= self._room and expected.has_room_for(largest + self._held_size(name))
            if tensor.shape != expected.shape or not room:
                raise FedgramError(
                    f"{name} of shape {tuple(tensor.shape)} and weighted size {largest:.3g}",
                    where=site,
                    expected=f"shape {tuple(expected.shape)} and finite values up to {self._room:.3g}",
                )

    def _held_size(self, name: str) -> float:
        return sum(held[name].abs().max().item() * self.weights[site] for site, held in self._heaviest.items())

    def _fold(self, tensors: Mapping[str, Tensor], weight: float) -> None:
        for name, total in self._sums.items():
            total.add(tensors[name].double() * weight)

    def shares(self) -> dict[str, float]:
        """Shares p_k / Σ p_k after capping, by site in alphabetical order."""
        capped = capped_weights(self.weights, self._max_share)
        total = sum(capped[site] for site in sorted(capped))
        return {site: capped[site] / total for site in sorted(capped)}

    def close(self) -> dict[str, Tensor]:
        """End the round and return the weighted mean, float64, by name; nothing can be added afterwards.

        Raises:
            FedgramError: no site was added.
        """
        if not self.weights:
            raise FedgramError("a mean over no sites")
        self._closed = True
        capped = capped_weights(self.weights, self._max_share)
        if self._combine is not None:
            return self._combined(self._combine, capped)
        for site in sorted(self._heaviest):
            self._fold(self._heaviest[site], capped[site])
        self._heaviest.clear()
        total = FixedPointSum(())  # as exact as what it divides, so that masked sums give the same mean
        for weight in capped.values():
            total.add(torch.tensor(weight, dtype=torch.float64))
        return {name: total_sum.value() / total.value() for name, total_sum in self._sums.items()}

    def _combined(self, combine: Combine, capped: Mapping[str, float]) -> dict[str, Tensor]:
        """The rule over all tensors of a site as one row, sites in alphabetical order."""
        held = [self._heaviest[site] for site in sorted(capped)]
        rows = torch.stack([torch.cat([t[name].double().flatten() for name in self._sums]) for t in held])
        weights = torch.tensor([capped[site] for site in sorted(capped)], dtype=torch.float64)
        row = combine(rows, weights).split([s.shape.numel() for s in self._sums.values()])
        return {name: part.reshape(s.shape) for (name, s), part in zip(self._sums.items(), row, strict=True)}


class GramConsensus:
    """The consensus Ḡ over B anchor slots of sites that may each cover only some (Eklund 2026, below eq. 2).

    Ḡ_ij is the mean over the sites that cover both i and j. A pair that fewer than two sites share carries no
    consensus and is NaN.

    Args:
        slots: B.
        median: whether it is the median instead, which holds every G until the end: memory is that of the G.
    """

    def __init__(self, slots: int, *, median: bool = False):
        self._slots = slots
        self._held: list[tuple[Tensor, tuple[int, ...]]] | None = [] if median else None
        self._sum = FixedPointSum((slots, slots))
        self._count = torch.zeros(slots, slots, dtype=torch.int64)
        self._sites: set[str] = set()

    def add(self, site: str, gram: Tensor, slots: tuple[int, ...]) -> None:
        """Add the (b, b) Gram of a site that covers the given slots.

        Raises:
            FedgramError: a second reply of the same site, slots that are not ascending numbers of the anchor
                set, a Gram of another shape or not finite. The consensus is then unchanged.
        """
        if site in self._sites:
            raise FedgramError("a second Gram in one round", where=site)
        if list(slots) != sorted(set(slots) & set(range(self._slots))):
            raise FedgramError(
                f"anchor slots {slots[:8]}", where=site, expected=f"ascending, from 0 to {self._slots - 1}"
            )
        if gram.shape != (len(slots), len(slots)) or not torch.isfinite(gram).all():
            raise FedgramError(
                f"Gram of shape {tuple(gram.shape)}", where=site, expected=f"{len(slots)} square, finite"
            )
        block = gram_block(gram, slots, range(self._slots), self._slots)
        if self._held is None:
            self._sum.add(block.nan_to_num(nan=0.0))
        else:
            self._held.append((gram, slots))
        self._sites.add(site)
        self._count += ~block.isnan()

    def close(self) -> Tensor:
        """The consensus Ḡ, (B, B), float32, NaN where no two sites share a pair."""
        if self._held:
            consensus = torch.cat([self._median(rows) for rows in _in_parts(self._slots)])
        else:
            return consensus_of(self._sum.value(), self._count)
        return torch.where(self._count >= 2, consensus, float("nan")).float()

    def _median(self, rows: range) -> Tensor:
        """The median of each entry in some rows, (rows, B)."""
        held = self._held or ()
        return entry_median(torch.stack([gram_block(gram, slots, rows, self._slots) for gram, slots in held]))


def gram_block(gram: Tensor, slots: tuple[int, ...], rows: range, total: int) -> Tensor:
    """Rows of a site's (b, b) Gram in its place among all anchors, (rows, B) float64, NaN where it has none."""
    index = torch.tensor(slots, dtype=torch.long)
    first, last = bisect_left(slots, rows.start), bisect_left(slots, rows.stop)
    block = torch.full((len(rows), total), float("nan"), dtype=torch.float64)
    block[index[first:last, None] - rows.start, index[None, :]] = gram[first:last].double()
    return block


def _in_parts(total: int) -> list[range]:
    """The numbers below ``total`` in parts of at most :data:`_ROWS`."""
    return [range(start, min(start + _ROWS, total)) for start in range(0, total, _ROWS)]


def consensus_of(total: Tensor, count: Tensor) -> Tensor:
    """The consensus Σ_k G_k / count, (B, B) float32, NaN where no two sites share a pair."""
    return torch.where(count >= 2, total / count.clamp(min=1), float("nan")).float()


def target_gram(consensus: Tensor, own: Tensor, slots: tuple[int, ...]) -> Tensor:
    """The target of one site: Ḡ on its own slots, and its own geometry where there is no consensus.

    Entries that no two sites share then pull nowhere, and CKA stays defined on a full (b, b) block.

    Args:
        consensus: (B, B), NaN where there is none.
        own: (b, b), the site's Gram; no gradient flows through it here.
        slots: the b slots.

    Raises:
        FedgramError: ``own`` is not (b, b).
    """
    if own.shape != (len(slots), len(slots)):
        raise FedgramError(f"Gram of shape {tuple(own.shape)}", expected=f"{len(slots)} square, one row a slot")
    index = torch.tensor(slots, dtype=torch.long, device=own.device)
    block = consensus.to(own)[index[:, None], index[None, :]]
    return torch.where(block.isnan(), own.detach(), block)
