"""One-dimensional signals (ECG leads, spectra): a CSV with a row per signal."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from fedgram.records import Sample, Tokens


@dataclass(frozen=True)
class Patches:
    """A frozen tokenizer with nothing to learn: consecutive patches of the signal."""

    width: int = 16
    identity: str = "patches-16 v1"

    def __call__(self, contents):
        signals = torch.tensor(np.stack(contents), dtype=torch.float32)
        values = signals.unfold(1, self.width, self.width)
        return Tokens(values, torch.ones(values.shape[:2], dtype=torch.bool))


@dataclass(frozen=True)
class Signal:
    name: str = "signal"

    def read(self, path, reading):
        table = pd.read_csv(path, dtype={"id": str, "group": str})
        values = table.drop(columns=["id", "concept", "group"]).to_numpy(np.float32)
        return [
            Sample(id=row.id, concept=row.concept, group=row.group, content=signal)
            for row, signal in zip(table.itertuples(), values, strict=True)
        ]

    def read_anchor(self, path):
        return np.loadtxt(path, delimiter=",", dtype=np.float32)

    def tokenizer(self, name, fit_on):
        return Patches()

    def fingerprint(self, content):
        return content.tobytes()


MODALITY = Signal()
