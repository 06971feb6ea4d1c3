"""What a user reads when a model cannot be had, from a hub that refuses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from encoders import save_dnabert
from fedgram import modalities
from fedgram.config.job import BackboneConfig
from fedgram.errors import BackboneError, DataError
from fedgram.model.backbone import load_backbone
from fedgram.pretrained import load_model, load_part, locate
from huggingface_hub import constants
from transformers import AutoConfig, AutoModel, BertForMaskedLM

SCRIPT = """
import sys
from fedgram import modalities
from fedgram.config.job import BackboneConfig
from fedgram.errors import FedgramError
from fedgram.model.backbone import load_backbone
for model in sys.argv[1:]:
    attempts = [
        lambda: load_backbone(BackboneConfig(model), {}),
        *(lambda m=m: modalities.load(m).tokenizer(model, []) for m in ("text", "image", "genomics")),
    ]
    for attempt in attempts:
        try:
            attempt()
        except FedgramError as error:
            print(type(error).__name__, str(error).replace(chr(10), " "))
"""
REFUSALS = {
    "org/gated": ("GatedRepo", 403, r"accept the licence at https://huggingface\.co/org/gated .* `hf auth login`"),
    "org/gone": ("RepoNotFound", 401, "correct the hub id; for a private model, run `hf auth login` at this site"),
}


@pytest.fixture
def hub() -> Iterator[str]:
    """Address of a hub that refuses everything."""

    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, status = next(refusal[:2] for name, refusal in REFUSALS.items() if name in self.path)
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def attempts(home: Path, *models: str, **environment: str) -> list[str]:
    """The messages of four attempts to load each model, in a process of its own."""
    given = {**os.environ, "HF_HOME": str(home), **environment}
    command = [sys.executable, "-c", SCRIPT, *models]
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=False, timeout=120)
    lines = done.stdout.splitlines()
    kinds = ["BackboneError", "DataError", "DataError", "DataError"] * len(models)
    assert [line.split()[0] for line in lines] == kinds, done
    return lines


def test_a_refusal_of_the_hub_says_what_to_do(hub: str, tmp_path: Path):
    lines = attempts(tmp_path, *REFUSALS, HF_ENDPOINT=hub, HF_HUB_OFFLINE="0")
    for number, line in enumerate(lines):
        _, _, remedy = list(REFUSALS.values())[number // 4]
        assert re.search(remedy, line), line


@pytest.mark.parametrize("kind", ["backbone", "text", "image", "genomics"])
def test_without_a_hub_the_site_names_a_folder(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    told = "make the hub reachable, or name a local folder in the site file"
    if kind == "backbone":
        with pytest.raises(BackboneError, match=told):
            load_backbone(BackboneConfig("org/model"), {})
    else:
        with pytest.raises(DataError, match=told):
            modalities.load(kind).tokenizer("org/model", [])


def test_code_of_a_checkpoint_is_never_run(tmp_path: Path):
    """Not even with transformers' question on the terminal: without a terminal it would wait for an answer."""
    (tmp_path / "config.json").write_text('{"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}')
    (tmp_path / "own.py").write_text("raise SystemExit('code of the checkpoint was run')")
    with pytest.raises(DataError, match="fedgram runs no code that comes with a model"):
        load_part(AutoConfig, str(tmp_path), where="x", error=DataError)


def test_missing_weights_are_named_and_a_pooler_is_not_missed(tmp_path: Path):
    folder = save_dnabert(tmp_path)
    settings = AutoConfig.from_pretrained(folder)
    model = load_model(AutoModel, folder, settings, where="x", error=BackboneError)
    assert model.pooler is None
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    settings.num_hidden_layers = 3
    with pytest.raises(BackboneError, match=r"no weights for 16 parameters, 'encoder\.layer\.2\."):
        load_model(AutoModel, folder, settings, where="x", error=BackboneError)


def test_a_checkpoint_of_another_shape(tmp_path: Path):
    folder = save_dnabert(tmp_path)
    settings = AutoConfig.from_pretrained(folder)
    settings.hidden_size = 32
    with pytest.raises(DataError, match="cannot be loaded"):
        load_model(BertForMaskedLM, folder, settings, where="x", error=DataError)


def test_a_packaged_model_has_a_short_name():
    assert Path(locate("minilm"), "config.json").is_file()
    assert locate("org/model") == "org/model"
