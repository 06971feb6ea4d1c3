"""TabPFN's embeddings: small random networks of its architectures, through the package's own interface."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fedgram import modalities
from fedgram.data.rows import Row
from fedgram.errors import DataError
from fedgram.modalities.tabpfn_rows import TabPfnRows
from fedgram.records import Sample
from tabpfn import TabPFNClassifier
from tabpfn.architectures import ARCHITECTURES
from tabpfn.checkpoint import save_as_safetensors
from tabpfn.inference_config import InferenceConfig

HEADS = {"max_num_classes": 10, "num_buckets": 10}
SHAPES = {
    "tabpfn_v2_5": {"emsize": 24, "nlayers": 2, "nhead": 2, "num_thinking_rows": 4, **HEADS},
    "tabpfn_v3_5": {
        "embed_dim": 16,
        "nlayers": 2,
        "icl_num_heads": 2,
        "dist_embed_num_blocks": 1,
        "dist_embed_num_heads": 2,
        "dist_embed_num_inducing_points": 4,
        "feat_agg_num_blocks": 1,
        "feat_agg_num_heads": 2,
        "feat_agg_num_cls_tokens": 2,
        "decoder_head_dim": 8,
        "decoder_num_heads": 2,
        **HEADS,
    },
}
COLUMNS = ("a", "b", "c")


def save(folder: Path, architecture: str = "tabpfn_v2_5", seed: int = 0) -> str:
    torch.manual_seed(seed)
    config, _ = ARCHITECTURES[architecture].parse_config(SHAPES[architecture])
    network = ARCHITECTURES[architecture].get_architecture(config)
    for parameter in network.parameters():  # an untrained one does not look at its context
        parameter.data += 0.2 * torch.randn_like(parameter)
    checkpoint = {
        "state_dict": network.state_dict(),
        "config": asdict(config),
        "architecture_name": architecture,
        "inference_config": asdict(InferenceConfig.get_default("multiclass", "v2.5")),
    }
    path = folder / f"{architecture}.safetensors"
    save_as_safetensors(checkpoint, path)
    return str(path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tmp_path_factory.mktemp("tabpfn"))


def row(number: int, *values: float | str) -> Row:
    return Row(COLUMNS, values, f"row {number}")


def samples(count: int = 24, group_size: int = 1) -> list[Sample]:
    """Two numbers, the second sometimes missing, and a category; classes by turns."""
    draws = np.random.default_rng(0).normal(size=(count, 2))
    return [
        Sample(
            id=str(i),
            concept=("dog", "cat")[i % 2],
            group=f"patient {i // group_size}",
            content=row(i, float(a), math.nan if i % 7 == 3 else float(b), ("red", "blue", "green")[i % 3]),
        )
        for i, (a, b) in enumerate(draws)
    ]


def relabelled(given: list[Sample], *numbers: int) -> list[Sample]:
    other = {"dog": "cat", "cat": "dog"}
    return [replace(s, concept=other[s.concept]) if i in numbers else s for i, s in enumerate(given)]


def tokens(name: str, fit_on: list[Sample], rows: list[Row]) -> torch.Tensor:
    return TabPfnRows(name, fit_on)(rows).values


@pytest.mark.parametrize("architecture", sorted(SHAPES))
def test_a_new_row_is_embedded_as_tabpfn_itself_does(architecture: str, tmp_path: Path):
    name, given = save(tmp_path, architecture), samples()
    tokenizer = modalities.load("tabular").tokenizer(name, given)
    new = [row(90, 0.3, -1.0, "red"), row(91, 2.0, math.nan, "blue")]
    got = tokenizer(new)
    assert got.values.shape == (2, 4, tokenizer.width)
    assert got.values.dtype == torch.float32
    assert got.mask.all()
    frame = pd.DataFrame([s.content.values for s in given], columns=list(COLUMNS))
    kinds = pd.CategoricalDtype(["blue", "green", "red"])
    model = TabPFNClassifier(model_path=name, n_estimators=4, device="cpu", inference_precision=torch.float32)
    model.fit(frame.astype({"c": kinds}), [s.concept for s in given])
    asked = pd.DataFrame([r.values for r in new], columns=list(COLUMNS)).astype({"c": kinds})
    torch.testing.assert_close(got.values, torch.from_numpy(model.get_embeddings(asked)).transpose(0, 1))
    alone = torch.cat([tokenizer([one]).values for one in new])
    torch.testing.assert_close(alone, got.values, atol=1e-5, rtol=1e-5)


def test_the_label_of_a_training_row_is_not_in_its_embedding(weights: str):
    """It is in those of others, for it is in their context."""
    given = samples()
    rows = [s.content for s in given]
    before, after = tokens(weights, given, rows), tokens(weights, relabelled(given, 5), rows)
    assert torch.equal(before[5], after[5])
    changed = (before != after).flatten(1).any(1)
    assert changed.sum() >= 24 - 24 // 5 - 1
    new = row(90, *given[5].content.values[:2], "red")  # but for one cell the same: an unseen row
    assert not torch.equal(tokens(weights, given, [new]), tokens(weights, relabelled(given, 5), [new]))


def test_nor_are_the_labels_of_the_same_patient(weights: str):
    given = samples(group_size=3)
    rows = [s.content for s in given]
    before, after = tokens(weights, given, rows), tokens(weights, relabelled(given, 3, 5), rows)
    assert torch.equal(before[3:6], after[3:6])


def test_nor_are_those_of_equal_rows_of_other_patients(weights: str):
    given = samples()
    given[20] = replace(given[20], content=replace(given[2].content, source="row 20"))
    rows = [s.content for s in given]
    before, after = tokens(weights, given, rows), tokens(weights, relabelled(given, 20), rows)
    assert torch.equal(before[2], before[20])
    assert torch.equal(before[2], after[2])


def test_columns_are_told_by_name_and_unseen_categories_are_missing(weights: str):
    tokenizer = TabPfnRows(weights, samples())
    values = row(90, 0.3, -1.0, "red").values
    turned = Row(COLUMNS[::-1], values[::-1], "anchor")
    assert torch.equal(tokenizer([turned]).values, tokenizer([row(90, *values)]).values)
    unseen, missing = (tokenizer([row(90, 0.3, -1.0, cell)]).values for cell in ("violet", math.nan))
    assert torch.equal(unseen, missing)
    (said,) = tokenizer.remarks([row(90, 0.3, -1.0, "violet")])
    assert said.endswith("in 1 of 1 rows")
    with pytest.raises(DataError, match=r"(?s)anchor\.csv.*'c' is missing"):
        tokenizer([Row(COLUMNS[:2], values[:2], "anchor.csv")])
    with pytest.raises(DataError, match=r"(?s)row 90.*'a' is not a number"):
        tokenizer([row(90, "tall", 1.0, "red")])


def test_numbers_are_regressed(weights: str):
    """A checkpoint of a classifier has no head for it, and says so by the name of the error only."""
    given = [replace(s, concept="", target=float(i)) for i, s in enumerate(samples())]
    with pytest.raises(DataError, match=r"(?s)cannot be (fitted|loaded).*weights for this task"):
        TabPfnRows(weights, given)


def test_identity_is_of_weights_rows_labels_and_groups(weights: str, tmp_path: Path):
    given = samples(8)
    identities = [
        TabPfnRows(name, fit_on).identity
        for name, fit_on in (
            (weights, given),
            (save(tmp_path, seed=1), given),
            (weights, relabelled(given, 1)),
            (weights, given[:-1]),
            (weights, [replace(s, group=f"{i // 2}") for i, s in enumerate(given)]),
        )
    ]
    assert len(set(identities)) == 5
    assert TabPfnRows(weights, given).identity == identities[0]


def test_what_it_cannot_be_fitted_to(weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    given = samples()
    one_class = [replace(s, concept="dog") for s in given]
    unlabelled = [replace(s, concept="") for s in given[:3]] + given[3:]
    one_patient = [replace(s, group="patient") for s in given]
    for wrong in (one_class, unlabelled, one_patient):
        with pytest.raises(DataError, match=r"(?s)24 training rows of \d classes.*two groups"):
            TabPfnRows(weights, wrong)
    many = [replace(s, concept=f"secret {i // 2}") for i, s in enumerate(given)]
    with pytest.raises(DataError, match="cannot be fitted to 24 training rows") as caught:
        TabPfnRows(weights, many)
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("TABPFN_MODEL_CACHE_DIR", str(tmp_path))
    for name in ("tabpfn", str(tmp_path / "nowhere.ckpt")):
        with pytest.raises(DataError, match=r"(?s)no weights at .*accept Prior Labs' licence"):
            modalities.load("tabular").tokenizer(name, given)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'fedgram\[tabular\]'"):
        TabPfnRows(weights, given)
