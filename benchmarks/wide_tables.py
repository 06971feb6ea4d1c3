"""Wide tables against logistic regression on the same rows: what the tokens keep, and what a site learns alone.

    python benchmarks/wide_tables.py [--columns 765 5000 20000] [--seeds 5] [--steps 16]

Handwritten digits (scikit-learn's, 64 pixels) as if an assay had measured them: of the columns three tenths are
mixtures of three pixels each, all have noise of variance 1, a scale and an offset of their own; one in twenty is
cut into three categories, one cell in a hundred is missing. A seed draws rows, columns and split: 300 rows
train, 100 validate, 400 test, and 30 are public anchors, which train, too. Logistic regression has the same rows,
standardised and one-hot, and takes its C from the validation rows. Prints JSON, with the greatest memory so far.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
import warnings
from pathlib import Path
from statistics import fmean, pstdev

import numpy as np
import pandas as pd
import torch
from fedgram.anchors.build import build
from fedgram.config.job import AnchorPin, JobConfig, TrainingConfig
from fedgram.config.site import Columns, SiteConfig
from fedgram.sites.opening import open_site
from fedgram.training.rounds import train_alone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

PARTS = {"anchor": 30, "train": 300, "validation": 100, "test": 400}
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def table(columns: int, seed: int, parts: dict[str, int]) -> pd.DataFrame:
    """Rows of all parts, with ``concept`` and ``split``."""
    generator = np.random.default_rng(seed)
    digits, classes = (np.asarray(part) for part in load_digits(return_X_y=True))
    turn = generator.permutation(len(classes))
    anchors = np.concatenate([turn[classes[turn] == c][: parts["anchor"] // 10] for c in range(10)])
    others = turn[~np.isin(turn, anchors)][: sum(parts.values()) - len(anchors)]
    rows = np.concatenate([anchors, others])
    pixels = StandardScaler().fit_transform(digits[rows])
    mixing = np.zeros((64, columns))
    for column in np.flatnonzero(generator.random(columns) < 0.3):
        mixing[generator.choice(64, 3, replace=False), column] = 0.5 * generator.normal(size=3)
    values = pixels @ mixing + generator.normal(size=(len(rows), columns))
    values = values * generator.lognormal(size=columns) + generator.normal(0, 2, columns)
    values[generator.random(values.shape) < 0.01] = np.nan
    found = {f"gene{i}": values[:, i].round(4) for i in range(columns)}
    for i in range(0, columns, 20):
        cuts = np.linspace(np.nanmin(values[:, i]), np.nanmax(values[:, i]), 4)[1:3]
        ranks = np.array(["low", "middle", "high"], dtype=object)[np.digitize(values[:, i], cuts)]
        ranks[np.isnan(values[:, i])] = None
        found[f"gene{i}"] = ranks
    split = [part for part, count in parts.items() for _ in range(count)]
    return pd.DataFrame({"concept": [f"d{c}" for c in classes[rows]], "split": split, **found})


def logistic_regression(rows: pd.DataFrame) -> float:
    """Test accuracy of the C that validates best."""
    features = rows.drop(columns=["concept", "split"])
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    prepare = make_column_transformer(  # scikit-learn's stubs do not know that a selector takes a kind's name
        (numbers, make_column_selector(dtype_include="number")),  # pyrefly: ignore[bad-argument-type]
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),  # pyrefly: ignore[bad-argument-type]
        sparse_threshold=0,
    )
    learnt = rows["split"].isin(["anchor", "train"])
    prepared = prepare.fit(features[learnt]).transform(features)
    x, y = np.asarray(prepared), rows["concept"].to_numpy()
    x = x @ np.linalg.svd(x[learnt], full_matrices=False)[2].T  # the weights lie in the span of the learnt rows
    parts = [rows["split"] == part for part in ("validation", "test")]
    scores = []
    for c in STRENGTHS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=c, max_iter=300).fit(x[learnt], y[learnt])
        scores.append([model.score(x[part], y[part]) for part in parts])
    return max(scores, key=lambda pair: pair[0])[1]


def home(rows: pd.DataFrame, folder: Path, training: TrainingConfig | None) -> tuple[float, float | None]:
    """Test accuracy of logistic regression on a site's tokens, and of the site, which trains alone."""
    public, data = folder / "public", folder / "table.parquet"
    for concept, some in rows[rows["split"] == "anchor"].groupby("concept"):
        path = public / "tabular" / str(concept) / "rows.csv"
        path.parent.mkdir(parents=True)
        some.drop(columns=["concept", "split"]).to_csv(path, index=False)
    anchors = build(public, folder / "anchors", name="wide", terms={"licence": "CC BY 4.0", "source": "digits"})
    rows[rows["split"] != "anchor"].assign(id=range(sum(rows["split"] != "anchor"))).to_parquet(data)
    config = SiteConfig(
        modality="tabular",
        data=str(data),
        tokenizer="wide",
        anchors=str(anchors.folder),
        cache=str(folder / "cache"),
        columns=Columns(group="id"),
        secret="",
    )
    pin = AnchorPin(anchors.manifest_sha256, tuple(slot.concept for slot in anchors.slots))
    site = open_site("home", config, JobConfig(anchors=pin, training=training or TrainingConfig()))
    tokens = site.floors()["frozen_lr"]
    if training is None:
        return tokens, None
    train_alone(site)
    return tokens, site.evaluate("test")["accuracy"]


def measure(
    columns: int, seeds: int, training: TrainingConfig | None, parts: dict[str, int] = PARTS
) -> dict[str, object]:
    """The accuracies of each seed, mean and standard deviation of what is lost, and the cost."""
    raw, tokens, alone, start = [], [], [], time.process_time()
    for seed in range(seeds):
        rows = table(columns, seed, parts)
        raw.append(logistic_regression(rows))
        with tempfile.TemporaryDirectory() as folder:
            seen, trained = home(rows, Path(folder), training)
        tokens.append(seen)
        alone += [] if trained is None else [trained]
    found = {
        "logistic regression on the columns": raw,
        "on the tokens": tokens,
        "difference": [a - b for a, b in zip(tokens, raw, strict=True)],
        "home": alone,
    }
    rounded = {name: [round(score, 3) for score in scores] for name, scores in found.items()}
    return {
        **rounded,
        "mean and sd of the difference": [round(f(found["difference"]), 3) for f in (fmean, pstdev)],
        "seconds of CPU each": round((time.process_time() - start) / seeds),
        "GB at most": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 1),
    }


def main() -> None:
    """Measure every number of columns and print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--columns", type=int, nargs="+", default=[765, 5000, 20000])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=0, help="of training in each of 24 rounds; 0: tokens alone")
    asked = parser.parse_args()
    training = TrainingConfig(local_steps=asked.steps) if asked.steps else None
    torch.set_num_threads(1)
    for columns in asked.columns:
        print(json.dumps({f"{columns} columns": measure(columns, asked.seeds, training)}), flush=True)


if __name__ == "__main__":
    main()
