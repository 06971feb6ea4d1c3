"""The structure of classes: the places of their prototypes to one another, in whatever basis (Wu et al. 2026)."""

from __future__ import annotations

import torch
from torch import Tensor

from fedgram.core.gram import cosine_gram
from fedgram.core.relative import cross_similarity


def structure_loss(z: Tensor, classes: Tensor, prototypes: Tensor) -> Tensor:
    """Compare how samples lie to their own classes with how the prototypes of those lie to one another.

    mean over i and c of (cos(z_i, p_c) − cos(P_{y_i}, P_c))², with p_c the mean of the samples of class c and P_c
    its prototype, over the classes that occur. Where every class has one sample it is the mean squared difference
    of the two Gram matrices.

    Args:
        z: (N, d) samples.
        classes: (N,) int64, of the samples, each in 0 … C − 1.
        prototypes: (C, w) from elsewhere; the width may be another.

    Returns:
        Scalar, 0 … 4.

    Laws: invariant to one orthogonal map of all samples, and to another of all prototypes.
    """
    present, place = classes.unique(return_inverse=True)
    members = torch.nn.functional.one_hot(place, len(present)).to(z)
    own = members.T @ z / members.sum(0)[:, None]
    target = cosine_gram(prototypes[present])[place]
    return (cross_similarity(z, own) - target).square().mean()
