"""The regression on frozen tokens as an answer, against scikit-learn called by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fedgram.model.tasks.labels import Classification, MultiLabel
from fedgram.model.tasks.regression import Regression
from fedgram.model.tasks.segmentation import Segmentation
from fedgram.records import LabelledTokens, Tokens
from fedgram.scoring.floors import STRENGTHS
from fedgram.scoring.frozen import FrozenLinear, frozen
from fedgram.scoring.frozen_linear import fit_frozen_linear
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from torch.nn import functional as F


def drawn(count: int, seed: int) -> LabelledTokens:
    """Samples of one token or two, and a number each that follows from them."""
    generator = torch.Generator().manual_seed(seed)
    values = 3 * torch.randn(count, 2, 5, generator=generator) + torch.arange(5.0)
    mask = torch.ones(count, 2).bool()
    mask[::2, 1] = False
    tokens = Tokens(values, mask)
    numbers = torch.from_numpy(frozen(tokens)).float() @ torch.tensor([1.0, -2.0, 0.0, 0.5, 0.0])
    numbers = numbers + 2 * torch.randn(count, generator=generator)
    return LabelledTokens(tokens=tokens, targets=numbers, concepts=[""] * count)


FIT, VALIDATION, TEST = (drawn(count, seed) for seed, count in enumerate((40, 20, 10)))


def classified(data: LabelledTokens, *bounds: float) -> LabelledTokens:
    return replace(data, targets=torch.bucketize(data.targets, torch.tensor(bounds)))


def scaled() -> tuple[StandardScaler, np.ndarray]:
    scaler = StandardScaler().fit(frozen(FIT.tokens))
    return scaler, scaler.transform(frozen(FIT.tokens))


@pytest.mark.parametrize("bounds", [(0.0,), (-3.0, 3.0)])
def test_classes_are_named_as_scikit_learn_names_them(bounds: tuple[float, ...]):
    task = Classification(tuple("abc"[: len(bounds) + 1]))
    fit, validation, test = (classified(part, *bounds) for part in (FIT, VALIDATION, TEST))
    scaler, x = scaled()
    models = [LogisticRegression(C=c, max_iter=1000).fit(x, fit.targets) for c in STRENGTHS]

    def says(model: LogisticRegression, part: LabelledTokens) -> np.ndarray:
        return model.predict_log_proba(scaler.transform(frozen(part.tokens)))

    expected = min(
        models, key=lambda m: F.nll_loss(torch.from_numpy(says(m, validation)), validation.targets).item()
    )
    found = fit_frozen_linear(task, fit, validation)
    torch.testing.assert_close(
        found(test.tokens).log_softmax(1), torch.from_numpy(says(expected, test)).float(), atol=1e-5, rtol=1e-5
    )


def test_numbers_are_those_of_a_ridge_regression():
    task = Regression(float(FIT.targets.mean()), float(FIT.targets.std()))
    scaler, x = scaled()
    models = [Ridge(alpha=1 / c).fit(x, FIT.targets) for c in STRENGTHS]

    def says(model: Ridge, part: LabelledTokens) -> np.ndarray:
        return model.predict(scaler.transform(frozen(part.tokens)))

    expected = min(models, key=lambda m: np.square(says(m, VALIDATION) - VALIDATION.targets.numpy()).mean())
    answers = task.predictions(fit_frozen_linear(task, FIT, VALIDATION)(TEST.tokens))
    np.testing.assert_allclose([a.value for a in answers], says(expected, TEST), rtol=1e-4, atol=1e-4)


def test_labels_are_regressed_one_by_one_and_one_that_never_changes_has_its_odds():
    task = MultiLabel(("always", "high", "low"))
    parts = []
    for part in (FIT, VALIDATION, TEST):
        columns = [torch.ones(len(part)), part.targets > 0, part.targets < -2]
        parts.append(replace(part, targets=torch.stack([c.float() for c in columns], 1)))
    fit, validation, test = parts
    answers = fit_frozen_linear(task, fit, validation)(test.tokens)
    torch.testing.assert_close(answers[:, 0], torch.full((10,), 40.5 / 0.5).log())
    assert task.metrics(answers, test.targets)["auroc"] > 0.7
    scaler, x = scaled()
    models = [LogisticRegression(C=c, max_iter=1000).fit(x, fit.targets[:, 1]) for c in STRENGTHS]
    logits = np.stack([m.decision_function(scaler.transform(frozen(test.tokens))) for m in models])
    assert (torch.from_numpy(logits) - answers[:, 1]).abs().max(1).values.min() < 1e-4


def test_a_class_without_a_training_sample_is_never_named():
    task = Classification(("a", "b", "c", "d"))
    fit, validation = (classified(part, -3.0, 3.0) for part in (FIT, VALIDATION))
    fit = replace(fit, targets=fit.targets + (fit.targets > 0))  # a, c, d
    found = fit_frozen_linear(task, fit, replace(validation, targets=2 * (validation.targets > 0)))
    assert found(TEST.tokens)[:, 1].max() < found(TEST.tokens)[:, [0, 2, 3]].max(1).values.min() - 50


def test_where_there_is_none():
    task, fit, validation = Classification(("a", "b")), classified(FIT, 0.0), classified(VALIDATION, 0.0)
    nothing = replace(validation, tokens=validation.tokens[torch.arange(0)], targets=validation.targets[:0])
    assert fit_frozen_linear(task, fit, validation) is not None
    assert fit_frozen_linear(task, fit, nothing) is None
    assert fit_frozen_linear(task, replace(fit, targets=fit.targets * 0), validation) is None
    assert fit_frozen_linear(Segmentation((0, 1)), fit, validation) is None


def test_an_answer_by_hand():
    """The mean of the tokens that are there is (2, 3): 1·2 + 2·3 + ½ and −2."""
    tokens = Tokens(torch.tensor([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]]), torch.tensor([[True, True, False]]))
    model = FrozenLinear(torch.tensor([[1.0, 2.0], [-1.0, 0.0]]), torch.tensor([0.5, 0.0]))
    assert model(tokens).tolist() == [[8.5, -2.0]]
