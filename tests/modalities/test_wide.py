"""Tables of many columns: one token a row."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from fedgram.data.rows import Cell, Row
from fedgram.errors import DataError
from fedgram.modalities.tabular import NARROW, NumericTokens, tokenizer
from fedgram.modalities.wide import WideTokens, principal
from fedgram.records import Sample


def rows(values: np.ndarray, *more: tuple[Cell, ...]) -> list[Row]:
    """Rows of numbers, and beside them further columns of any cells."""
    columns = (*(f"g{i}" for i in range(values.shape[1])), *(f"more{i}" for i in range(len(more))))
    others = zip(*more, strict=True) if more else [()] * len(values)
    return [Row(columns, (*row, *cells), "r") for row, cells in zip(values.tolist(), others, strict=True)]


def drawn(count: int, columns: int = 40, seed: int = 0) -> np.ndarray:
    """Three hidden causes seen through many columns, with noise: the same causes for every seed."""
    mixing = np.random.default_rng(9).normal(size=(3, columns))
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, 3)) @ mixing + 0.3 * generator.normal(size=(count, columns))


def opened(name: str, some: list[Row]) -> object:
    return tokenizer(name, [Sample(id=str(i), concept="", group="", content=row) for i, row in enumerate(some)])


def test_directions_are_the_singular_vectors():
    centred = drawn(30) - drawn(30).mean(0)
    found = principal(centred, 3)
    _, _, vectors = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(found @ found.T, vectors[:3].T @ vectors[:3], atol=1e-12)
    np.testing.assert_allclose(found.T @ found, np.eye(3), atol=1e-12)


def test_what_most_columns_say_is_heard_most():
    """A cause that forty columns show moves a token √10 times as far as one that four show."""
    causes, shown = np.random.default_rng(0).normal(size=(200, 2)), np.repeat(np.eye(2), (40, 4), axis=1)
    found = WideTokens(rows(causes @ shown))(rows(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]) @ shown))
    many, few, none = found.values[:, 0]
    assert (many - none).norm() / (few - none).norm() == pytest.approx(10**0.5, rel=0.1)


def test_tokens_by_hand():
    """One column of numbers: standardised it is its own direction, and the token a multiple of the name's code."""
    tokens = WideTokens(rows(np.array([[1.0], [3.0], [5.0]])))(rows(np.array([[1.0], [3.0], [math.nan]])))
    code = WideTokens(rows(np.array([[1.0], [5.0]])))(rows(np.array([[5.0]]))).values[0, 0]
    torch.testing.assert_close(tokens.values[:, 0], torch.stack([-(1.5**0.5) * code, 0 * code, 0 * code]))
    assert code.std() == pytest.approx(1, abs=0.1)
    assert tokens.mask.all()


def test_a_table_becomes_wide_above_the_positions_of_a_bert():
    narrow, wide = (opened("numeric", rows(drawn(6, NARROW + more))) for more in (0, 1))
    assert type(narrow) is NumericTokens
    assert type(wide) is WideTokens
    assert type(opened("wide", rows(drawn(6, 4)))) is WideTokens


def test_tokens_do_not_depend_on_the_order_of_columns_or_the_batch():
    train = rows(drawn(30))
    found = WideTokens(train)
    turned = [Row(row.columns[::-1], row.values[::-1], "r") for row in train]
    values = found(train).values
    assert torch.equal(found(turned[4:6]).values, values[4:6])
    torch.testing.assert_close(WideTokens(turned)(train).values, values, atol=1e-4, rtol=1e-4)


def test_two_sites_with_the_same_columns_speak_of_the_same_tokens():
    here, there = (WideTokens(rows(drawn(200, seed=seed))) for seed in (1, 2))
    assert here.family == there.family
    assert here.identity != there.identity
    asked = rows(drawn(20, seed=3))
    a, b = here(asked).values[:, 0], there(asked).values[:, 0]
    same = torch.nn.functional.cosine_similarity(a, b)
    other = torch.nn.functional.cosine_similarity(a, b.roll(1, 0))
    assert same.mean() > 0.9 > 0.6 > other.abs().mean()  # of three causes, rows are alike by chance


def test_categories_and_missing_cells():
    words = tuple(("a", "b", math.nan, *"cdefghijklmnopqrs")[i % 20] for i in range(80))
    found = WideTokens(rows(drawn(80, 4), words))
    known = found.statistics["categories"]["more0"]
    assert len(known) == 16  # of 19: the rest are nothing known
    asked = rows(np.zeros((5, 4)), ("a", "b", "s", "never seen", math.nan))
    values = found(asked).values[:, 0]
    assert not torch.allclose(values[0], values[1], atol=1e-3)
    torch.testing.assert_close(values[2], values[3])
    torch.testing.assert_close(values[3], values[4])


def test_its_statistics_are_all_that_it_needs():
    words = tuple("ab"[i % 2] for i in range(30))
    train = rows(np.exp(3 * drawn(30)), words)
    first = WideTokens(train)
    again = WideTokens([], json.loads(json.dumps(first.statistics)))
    assert again.identity == first.identity
    assert torch.equal(again(train).values, first(train).values)


def test_what_it_refuses():
    train = rows(drawn(6, 3))
    with pytest.raises(DataError, match="no training rows"):
        WideTokens([])
    with pytest.raises(DataError, match="all training rows are alike"):
        WideTokens(train[:1] * 3)
    with pytest.raises(DataError, match="'g1' has no value in any training row"):
        WideTokens(rows(drawn(6, 3) * [1, math.nan, 1]))
    with pytest.raises(DataError, match="'g2' is not a number"):
        WideTokens(train)([Row(("g0", "g1", "g2"), (1.0, 2.0, "low"), "r")])
    with pytest.raises(DataError, match="'g2' is missing"):
        WideTokens(train)([Row(("g0", "g1"), (1.0, 2.0), "r")])
