"""One contract for every modality and every tokenizer."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from encoders import save_audio
from fedgram import modalities
from fedgram.errors import ConfigError, DataError
from fedgram.modalities.base import KeptTokenizer
from site_data import save_bert, save_vit, write_anchor, write_site

CASES = [
    ("image", "efficientnet-lite0"),
    ("image", "vit"),
    ("text", "minilm"),
    ("text", "bert"),
    ("genomics", "kmer"),
    ("genomics", "dna-bert"),
    ("tabular", "numeric"),
    ("tabular", "wide"),
    ("audio", "log-mel"),
    ("audio", "ast"),
    ("audio", "wav2vec2"),
]


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    return {
        "vit": save_vit(folder / "vit"),
        "ast": save_audio("ast", folder / "ast"),
        "wav2vec2": save_audio("wav2vec2", folder / "wav2vec2"),
        "bert": save_bert(folder / "bert", ["small", "large", "grey", "dog", "cat"]),
        "dna-bert": save_bert(folder / "dna", [*"acgtn", "##a", "##c", "##g", "##t", "##n"]),
    }


@pytest.fixture(params=CASES, ids=lambda case: "-".join(case))
def opened(request, encoders, tmp_path):
    name, tokenizer = request.param
    modality = modalities.load(name)
    samples = modality.read(write_site(name, tmp_path))
    return modality, samples, modality.tokenizer(encoders.get(tokenizer, tokenizer), samples), tmp_path


def test_a_tokenizer_opens_again_without_the_data_that_it_was_fitted_on(opened, encoders, request):
    """Its statistics go through JSON; one without any never looks at samples."""
    modality, samples, tokenizer, _ = opened
    name = request.node.callspec.params["opened"][1]
    kept = [json.loads(json.dumps(tokenizer.statistics))] if isinstance(tokenizer, KeptTokenizer) else []
    assert bool(kept) == (name in ("numeric", "wide", "minilm", "bert", "dna-bert"))
    again = modality.tokenizer(encoders.get(name, name), [] if kept else Unreadable(), *kept)
    contents = [s.content for s in samples]
    assert again.identity == tokenizer.identity
    assert torch.equal(again(contents).values, tokenizer(contents).values)


class Unreadable(list):
    """Samples that nobody can look at any more."""

    def __iter__(self):
        raise DataError("gone")


def test_samples_carry_labels_and_groups(opened):
    modality, samples, _, _ = opened
    assert sorted(s.concept for s in samples) == ["cat", "dog", "dog"]
    assert len({s.id for s in samples}) == len({s.group for s in samples}) == 3
    assert len({modality.fingerprint(s.content) for s in samples}) == 3


def test_tokens_are_frozen_float32_and_of_one_shape(opened):
    _, samples, tokenizer, _ = opened
    tokens = tokenizer([s.content for s in samples])
    assert tokens.values.dtype == torch.float32
    assert tokens.mask.dtype == torch.bool
    assert not tokens.values.requires_grad
    assert tokens.values.shape == (*tokens.mask.shape, tokenizer.width)
    assert len(tokens) == 3
    assert torch.isfinite(tokens.values).all()
    assert tokens.mask.any(dim=1).all()
    assert len(tokens.values.flatten(1).unique(dim=0)) == 3


def test_a_sample_has_the_same_tokens_alone_and_in_a_batch(opened):
    _, samples, tokenizer, _ = opened
    together = tokenizer([s.content for s in samples])
    for i, sample in enumerate(samples):
        alone = tokenizer([sample.content])
        assert torch.equal(alone.mask, together.mask[i : i + 1])
        torch.testing.assert_close(alone.values, together.values[i : i + 1], atol=1e-4, rtol=1e-4)


def test_anchors_go_through_the_same_tokenizer(opened):
    modality, samples, tokenizer, folder = opened
    tokens = tokenizer([modality.read_anchor(write_anchor(modality.name, folder))])
    assert tokens.values.shape[1:] == tokenizer([samples[0].content]).values.shape[1:]
    assert tokens.mask.any()


def test_identity_is_the_same_when_built_again(request, opened, encoders):
    modality, samples, tokenizer, _ = opened
    name = request.node.callspec.params["opened"][1]
    again = modality.tokenizer(encoders.get(name, name), samples)
    assert again.identity == tokenizer.identity


def test_identity_depends_on_weights_and_vocabulary(tmp_path):
    variants = [(["dog"], 0), (["dog"], 1), (["cat"], 0)]
    names = [save_bert(tmp_path / str(i), *variant) for i, variant in enumerate(variants)]
    assert len({modalities.load("text").tokenizer(name, []).identity for name in names}) == 3


@pytest.mark.parametrize("name", ["image", "text", "genomics", "tabular", "audio"])
def test_missing_data_is_named(name, tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        modalities.load(name).read(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("name", ["image", "text", "genomics", "tabular", "audio"])
def test_unknown_tokenizer_is_named(name, tmp_path):
    with pytest.raises(DataError, match="nosuch"):
        modalities.load(name).tokenizer(str(tmp_path / "nosuch"), [])


def test_an_own_modality_is_one_dotted_name():
    assert modalities.load("fedgram.modalities.text:MODALITY") is modalities.load("text")


@pytest.mark.parametrize("name", ["smell", "nowhere.at_all:MODALITY", "fedgram.modalities.text:NOTHING"])
def test_unknown_modality(name):
    with pytest.raises(ConfigError, match="modality"):
        modalities.load(name)


def test_importing_the_package_loads_no_encoder_library():
    code = "import sys, fedgram.modalities; sys.exit(bool({'transformers', 'nvflare'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
