"""Loading the shared transformer: what a job's name for it may stand for at a site."""

from __future__ import annotations

from pathlib import Path

import pytest
from fedgram.config.job import BackboneConfig
from fedgram.errors import BackboneError
from fedgram.model.backbone import load_backbone
from lora_models import bert


@pytest.mark.parametrize("name", ["org/model", "model", "minilm-2"])
def test_a_job_cannot_reach_a_folder_in_the_working_directory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bert().save_pretrained(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BackboneError, match="a job cannot name a file or folder at a site"):
        load_backbone(BackboneConfig(name), {})
    with pytest.raises(BackboneError, match="a job cannot name a file or folder at a site"):
        load_backbone(BackboneConfig(name), {"other": str(tmp_path / name)})
    assert load_backbone(BackboneConfig(name), {name: str(tmp_path / name)})


def test_a_dangling_link_is_a_path_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "model").symlink_to(tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BackboneError, match="a job cannot name a file or folder at a site"):
        load_backbone(BackboneConfig("model"), {})


def test_a_folder_that_the_site_names_must_be_there(tmp_path: Path):
    with pytest.raises(BackboneError, match=r"(?s)no folder.*nowhere.*correct .backbones."):
        load_backbone(BackboneConfig("x"), {"x": str(tmp_path / "nowhere")})
