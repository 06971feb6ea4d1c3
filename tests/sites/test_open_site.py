"""What is wrong at a site is said before training starts, with file, site and remedy."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from fedgram import modalities
from fedgram.anchors import load_anchors
from fedgram.config.site import SiteConfig, read_site_config
from fedgram.errors import AnchorError, BackboneError, ConfigError, DataError
from fedgram.sites.anchored import anchor_tokens
from fedgram.sites.channel import Channel
from fedgram.sites.device import choose_device
from fedgram.sites.opening import open_site
from toy import Toy, few_positions
from transformers import ResNetConfig, ResNetModel


def site(toy: Toy, **changes: object) -> SiteConfig:
    return dataclasses.replace(toy.sites["red"], **changes)  # type: ignore[arg-type]


def test_missing_data(toy: Toy, tmp_path: Path):
    config = dataclasses.replace(site(toy, modality="text"), data=str(tmp_path / "nothing.csv"))
    with pytest.raises(DataError, match=r"nothing\.csv"):
        open_site("red", config, toy.job)


def test_a_concept_without_samples(toy: Toy):
    with pytest.raises(DataError, match=r"(?s)red: concepts: no sample of \['birch'\].*moss, oak, pine, rye"):
        open_site("red", site(toy, concepts=("oak", "birch")), toy.job)


def test_one_class_cannot_be_classified(toy: Toy):
    with pytest.raises(ConfigError, match="at least 2"):
        open_site("red", site(toy, concepts=("oak",)), toy.job)


def test_no_concept_in_common_with_the_anchors(toy: Toy, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    data = Path(toy.sites["red"].data).read_text()
    for old, new in (("oak", "elk"), ("pine", "fox"), ("rye", "owl"), ("moss", "bee")):
        data = data.replace(old, new)
    (tmp_path / "animals.csv").write_text(data)
    opened = open_site("red", site(toy, data=str(tmp_path / "animals.csv")), toy.job)
    assert "red: none of its concepts is among the anchors'" in caplog.text
    assert opened.anchors.slots


def test_an_edited_anchor(toy: Toy, tmp_path: Path):
    folder = tmp_path / "anchors"
    shutil.copytree(toy.sites["red"].anchors, folder)
    edited = folder / "red" / "0.csv"
    edited.write_text(edited.read_text().replace("e", "e", 1) + " ")
    with pytest.raises(AnchorError, match=r"red/0\.csv: edited anchor file"):
        open_site("red", site(toy, anchors=str(folder)), toy.job)


def test_anchors_lie_where_the_site_computes(toy: Toy):
    """No machine of the tests has a GPU: ``meta`` stands for one."""
    config = site(toy, device="meta")
    modality = modalities.load(config.modality)
    channel = Channel(modality, modality.tokenizer("", []), None, Path(config.cache))
    tokens = anchor_tokens(load_anchors(Path(config.anchors)), channel, config).tokens
    assert tokens.values.device.type == tokens.mask.device.type == "meta"


def test_another_anchor_set_than_the_job_names(toy: Toy):
    with pytest.raises(AnchorError, match="another anchor set"):
        open_site("red", site(toy, anchors=toy.sites["red"].heldout), toy.job)


def test_no_heldout_anchors(toy: Toy):
    with pytest.raises(ConfigError, match="red: heldout: no held-out anchors"):
        open_site("red", site(toy, heldout=None), toy.job)


def test_a_backbone_folder_that_is_not_there(toy: Toy, tmp_path: Path):
    with pytest.raises(BackboneError, match=r"(?s)backbone 'tiny': no folder.*\[backbones\]"):
        open_site("red", site(toy, backbones={"tiny": str(tmp_path / "nothing")}), toy.job)


def test_a_backbone_that_is_no_model(toy: Toy, tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(BackboneError, match="cannot be loaded"):
        open_site("red", site(toy, backbones={"tiny": str(tmp_path)}), toy.job)


def test_more_tokens_than_the_backbone_has_positions(toy: Toy, tmp_path: Path):
    folder = str(few_positions(tmp_path))
    with pytest.raises(BackboneError, match=r"(?s)4 tokens a sample.*at most 3, the positions of backbone 'tiny'"):
        open_site("red", site(toy, backbones={"tiny": folder}), toy.job)


def test_a_backbone_without_inputs_embeds(toy: Toy, tmp_path: Path):
    shape = {"embedding_size": 8, "hidden_sizes": [8], "depths": [1]}
    ResNetModel(ResNetConfig(layer_type="basic", **shape)).save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match="ResNetModel does not take inputs_embeds"):
        open_site("red", site(toy, backbones={"tiny": str(tmp_path)}), toy.job)


def test_more_layers_than_there_are(toy: Toy):
    deep = toy.with_job(backbone={"layers": 9})
    with pytest.raises(BackboneError, match="9 layers asked for"):
        deep.open("red")


def test_fewer_layers(toy: Toy):
    shallow = toy.with_job(backbone={"layers": 1})
    assert len(shallow.open("red").spec.shapes) * 2 == len(toy.open("red").spec.shapes)


def test_a_modality_that_is_not_there(toy: Toy):
    with pytest.raises(ConfigError, match="unknown modality 'sound'"):
        open_site("red", site(toy, modality="sound"), toy.job)


def test_a_device_that_is_not_there():
    with pytest.raises(ConfigError, match="device"):
        choose_device("cuda:99")
    with pytest.raises(ConfigError, match="device"):
        choose_device("abacus")


def test_a_site_file(tmp_path: Path):
    path = tmp_path / "fedgram.toml"
    with pytest.raises(ConfigError, match="no site file"):
        read_site_config(path)
    path.write_text("modality = ")
    with pytest.raises(ConfigError, match="not a TOML file"):
        read_site_config(path)
    path.write_text('modality = "image"\ndata = "a"\ntokeniser = "b"\nanchors = "c"\n')
    with pytest.raises(ConfigError, match="did you mean 'tokenizer'"):
        read_site_config(path)
    path.write_text('modality = "image"\ndata = "a"\ntokenizer = "b"\n')
    with pytest.raises(ConfigError, match="missing setting 'anchors'"):
        read_site_config(path)
    path.write_text('modality = "image"\ndata = "a"\ntokenizer = "b"\nanchors = "c"\nthreads = "two"\n')
    with pytest.raises(ConfigError, match=r"(?s)threads: 'two'.*int"):
        read_site_config(path)
