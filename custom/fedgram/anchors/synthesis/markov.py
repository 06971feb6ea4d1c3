"""DNA from a Markov chain of order k for each concept, fitted on real public sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedgram.anchors.synthesis import Generator
from fedgram.errors import AnchorError

_BASES = "ACGT"
_SMOOTHING = 0.1  # added to every count: no base is impossible, and no context is a dead end
MAX_ORDER = 8


@dataclass(frozen=True)
class Chain:
    """A fitted Markov chain, as counts of what follows each context.

    Attributes:
        order: k.
        counts: (4^k, 4), how often each base followed each context of k bases.
        length: of what is drawn, the median of the sequences.
    """

    order: int
    counts: NDArray[np.float64]
    length: int

    def draw(self, seed: int) -> str:
        """Draw a sequence: its first context as frequent as in the data, then base by base."""
        generator = np.random.default_rng(seed)
        totals = self.counts.sum(1)
        context = generator.choice(len(totals), p=totals / totals.sum())
        bases = [context // 4**i % 4 for i in reversed(range(self.order))]
        smooth = self.counts + _SMOOTHING
        cumulative = (smooth / smooth.sum(1, keepdims=True)).cumsum(1)
        for uniform in generator.random(max(0, self.length - self.order)):
            base = min(int(np.searchsorted(cumulative[context], uniform, side="right")), 3)
            bases.append(base)
            context = (context * 4 + base) % 4**self.order
        return "".join(_BASES[base] for base in bases[: self.length])


def fit_chain(sequences: Sequence[str], order: int, where: str) -> Chain:
    """Count which base follows which k bases; contexts with an ambiguous letter do not count.

    Raises:
        AnchorError: ``order`` out of range, or fewer than 4^(k+1) such transitions, one for each count.
    """
    if not 0 <= order <= MAX_ORDER:
        raise AnchorError(f"order {order}", where=where, expected=f"0 to {MAX_ORDER}")
    counts = np.zeros((4**order, 4))
    for sequence in sequences:
        codes = [_BASES.find(base) for base in sequence]
        for end in range(order, len(codes)):
            window = codes[end - order : end + 1]
            if min(window) >= 0:
                context = sum(base * 4**i for i, base in enumerate(reversed(window[:-1])))
                counts[context, window[-1]] += 1
    if counts.sum() < 4 ** (order + 1):
        raise AnchorError(
            f"{int(counts.sum())} bases with {order} unambiguous ones before them, in {len(sequences)} sequences",
            where=where,
            expected=f"at least {4 ** (order + 1)} for order {order}",
            remedy="give more public sequences, lower the order, or leave the slots empty",
        )
    return Chain(order, counts, int(np.median([len(sequence) for sequence in sequences])))


def markov_chain(sequences: Mapping[str, Sequence[str]], order: int, fitted_on: str) -> Generator:
    """Make a generator of DNA by a :class:`Chain` for each concept.

    Args:
        sequences: public ones by concept, upper case, as ``fedgram.data.sequences.read_records`` gives them.
        order: k.
        fitted_on: names them in the manifest.
    """

    def draw(concept: str, seeds: Sequence[int]) -> list[bytes]:
        chain = fit_chain(sequences.get(concept, ()), order, f"{concept}, genomics")
        return [f">synthetic\n{chain.draw(seed)}\n".encode() for seed in seeds]

    made = {"generator": "markov-chain", "order": order, "fitted_on": fitted_on}
    return Generator("genomics", ".fasta", made, draw)
