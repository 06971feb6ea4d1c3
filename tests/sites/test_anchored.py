"""Anchors as labelled samples."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fedgram.model.tasks.labels import Classification, MultiLabel
from fedgram.records import AnchorTokens, LabelledTokens, Tokens
from fedgram.sites.anchored import with_labelled_anchors
from fedgram.sites.opening import open_site
from fedgram.training import rounds
from toy import Toy


def test_anchors_of_a_sites_classes_follow_its_samples(toy: Toy):
    site = toy.open("blue")  # its modality has no anchor of moss
    train, fit, count = site.data["train"], site.data["fit"], len(site.data["train"])
    assert len(fit) == count + len(site.anchors.slots)
    assert torch.equal(fit.tokens.values[:count], train.tokens.values)
    assert torch.equal(fit.tokens.values[count:], site.anchors.tokens.values)
    names = [toy.job.anchors.concepts[slot] for slot in site.anchors.slots]
    assert [*fit.concepts] == [*train.concepts, *names]
    assert [site.task.classes[i] for i in fit.targets[count:].tolist()] == names
    seen = {row for batch in site.batches(1, 10) for row in batch.rows.tolist()}
    assert seen == set(range(len(fit)))
    assert rounds.introduce(site).samples == count  # what is counted is the site's own


def test_an_anchor_of_a_class_that_the_site_does_not_train_on_is_no_sample(toy: Toy):
    site = open_site("red", replace(toy.sites["red"], concepts=("oak", "pine")), toy.job)
    assert {*site.data["fit"].concepts} == {"oak", "pine"}
    assert len(site.data["fit"]) == len(site.data["train"]) + 6


def test_without_the_setting_a_site_trains_on_its_own_samples(toy: Toy):
    site = toy.with_job(training={"anchor_labels": False}).open("red")
    assert site.data["fit"] is site.data["train"]


def tokens(count: int, length: int) -> Tokens:
    return Tokens(torch.randn(count, length, 3, dtype=torch.float64), torch.rand(count, length) > 0.3)


@pytest.mark.parametrize(("own", "public"), [(5, 2), (2, 5)])
def test_shorter_tokens_are_padded(own: int, public: int):
    train = LabelledTokens(tokens=tokens(2, own), targets=torch.tensor([1, 0]), concepts=("b", "a"))
    anchors = AnchorTokens(slots=(0, 2, 3), tokens=tokens(3, public), sha256="")
    fit = with_labelled_anchors(train, anchors, ("b", "x", "c", "a"), Classification(("a", "b")))
    assert fit.concepts == ("b", "a", "b", "a")
    assert fit.targets.tolist() == [1, 0, 1, 0]
    for row, (source, index) in enumerate([(train, 0), (train, 1), (anchors, 0), (anchors, 2)]):
        length = source.tokens.mask.shape[1]
        assert torch.equal(fit.tokens.values[row, :length], source.tokens.values[index])
        assert torch.equal(fit.tokens.mask[row, :length], source.tokens.mask[index])
        assert not fit.tokens.mask[row, length:].any()


def test_only_classifications_of_concepts_that_the_anchors_have_are_extended():
    train = LabelledTokens(tokens=tokens(2, 2), targets=torch.tensor([1, 0]), concepts=("b", "a"))
    anchors = AnchorTokens(slots=(0,), tokens=tokens(1, 2), sha256="")
    assert with_labelled_anchors(train, anchors, ("b",), MultiLabel(("a", "b"))) is train
    graded = replace(train, concepts=("b", "b"))  # one is graded "a", which is a concept's name and means another
    assert with_labelled_anchors(graded, anchors, ("b",), Classification(("a", "b"))) is graded
    assert with_labelled_anchors(train, anchors, ("c",), Classification(("a", "b"))) is train
