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
from fedgram.errors import BackboneError, DataError
from fedgram.pretrained import load_model, load_part, locate
from transformers import AutoConfig, AutoModel, BertForMaskedLM

SCRIPT = """
import sys
from fedgram import modalities
from fedgram.config.job import BackboneConfig
from fedgram.errors import FedgramError
from fedgram.model.backbone import load_backbone
attempts = [
    lambda: load_backbone(BackboneConfig("org/model"), {}),
    *(lambda m=m: modalities.load(m).tokenizer("org/model", []) for m in ("text", "image", "genomics")),
]
for attempt in attempts:
    try:
        attempt()
    except FedgramError as error:
        print(type(error).__name__, str(error).replace(chr(10), " "))
"""
CASES = {
    "GatedRepo": (403, r"accept the licence at https://huggingface\.co/org/model .* `hf auth login`"),
    "RepoNotFound": (401, "correct the hub id; for a private model, run `hf auth login` at this site"),
}


@pytest.fixture(params=CASES)
def hub(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """Address of a hub that refuses everything, and what its user should be told."""
    status, remedy = CASES[request.param]

    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", request.param)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", remedy
    server.shutdown()
    server.server_close()


def attempts(home: Path, **environment: str) -> list[str]:
    """The messages of four attempts to load ``org/model``, in a process of its own."""
    given = {**os.environ, "HF_HOME": str(home), **environment}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=False, timeout=120)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["BackboneError", "DataError", "DataError", "DataError"], done
    return lines


def test_a_refusal_of_the_hub_says_what_to_do(hub: tuple[str, str], tmp_path: Path):
    endpoint, remedy = hub
    for line in attempts(tmp_path, HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="0"):
        assert re.search(remedy, line), line


def test_without_a_hub_the_site_names_a_folder(tmp_path: Path):
    for line in attempts(tmp_path, HF_HUB_OFFLINE="1"):
        assert "make the hub reachable, or name a local folder in the site file" in line


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
