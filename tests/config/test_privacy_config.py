"""Settings of differential privacy: what is no bound, and what no bound holds for, is refused by name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from fedgram.config.privacy import PrivacyConfig
from fedgram.config.site import BridgeConfig, Columns, SiteConfig, read_site_config
from fedgram.config.unified import UnifiedConfig
from fedgram.errors import ConfigError

BOUND = {"epsilon": 3.0, "delta": 1e-5}


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"epsilon": math.inf}, "epsilon"),
        ({"delta": 0.0}, "delta"),
        ({"delta": 1.0}, "delta"),
        ({"clip": 0.0}, "clip"),
        ({"clip": -2.0}, "clip"),
        ({"budget": 2.9}, "budget"),
        ({"budget": math.inf}, "budget"),
        ({"target": (1.0,)}, "target"),
        ({"target": (1.0, 0.0)}, "target"),
    ],
)
def test_a_bound_that_is_none(changes: dict[str, Any], setting: str):
    with pytest.raises(ConfigError, match=rf"privacy\.{setting}"):
        PrivacyConfig(**{**BOUND, **changes})


def test_a_budget_is_that_of_one_job_unless_it_is_said():
    assert PrivacyConfig(**BOUND).total == 3.0
    assert PrivacyConfig(**BOUND, budget=9.0).total == 9.0


def site(**changes: Any) -> SiteConfig:
    plain = {"modality": "text", "anchors": "/a", "data": "/d", "tokenizer": "t"}
    return SiteConfig(**{**plain, "privacy": PrivacyConfig(**BOUND), **changes})


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"bridge": BridgeConfig("image", "/d", "t")}, "bridge"),
        ({"modality": "tabular", "tokenizer": "tabpfn"}, "TabPFN"),
        ({"modality": "tabular", "tokenizer": "/w/tabpfn.safetensors"}, "TabPFN"),
        ({"share": ("concepts",)}, "concepts"),
        ({"class_weights": "balanced"}, "balanced"),
        ({"task": "regression"}, "privacy.target"),
        ({"task": "multilabel"}, "classes the data tell"),
        ({"task": "segmentation"}, "classes the data tell"),
        ({"task": "somebodys.package:Task"}, "classes the data tell"),
    ],
)
def test_what_no_bound_holds_for(changes: dict[str, Any], name: str):
    with pytest.raises(ConfigError, match=name) as caught:
        site(**changes)
    assert "remedy" in str(caught.value)


def test_a_unified_site_promises_nothing():
    with pytest.raises(ConfigError, match="unified"):
        site(modality="unified", data="", tokenizer="", unified=UnifiedConfig(questions="/q"))


def test_what_may_be_promised():
    assert site(share=("adapter", "head")).privacy
    assert site(task="multilabel", columns=Columns(targets=("a", "b"))).privacy
    assert site(task="regression", privacy=PrivacyConfig(**BOUND, target=(1.0, 2.0))).privacy


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("epsilon = 3", "missing setting 'delta'"),
        ("epsilon = 3.0\ndelta = 1e-5\nunit = 'sample'", "unit"),
        ("epsilon = 3.0\ndelta = 1e-5\nnoise = 1.0", "unknown setting 'noise'"),
        ("epsilon = 3.0\ndelta = 1e-5\nshare = ['head']", "stands below"),
        ("epsilon = true\ndelta = 1e-5", "epsilon"),
    ],
)
def test_a_file_is_read_strictly(tmp_path: Path, line: str, match: str):
    path = tmp_path / "fedgram.toml"
    path.write_text(f"modality = 'text'\nanchors = '/a'\ndata = '/d'\ntokenizer = 't'\n[privacy]\n{line}\n")
    with pytest.raises(ConfigError, match=match):
        read_site_config(path)
