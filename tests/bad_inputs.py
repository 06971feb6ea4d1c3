"""Inputs that no site should have, and what becomes of each: files and settings that are wrong, huge or hostile.

A case makes its input below a folder and returns what reads it. Nothing here waits, downloads or allocates much.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from fedgram.anchors import load_anchors
from fedgram.config.job import AnchorPin, BackboneConfig, JobConfig
from fedgram.config.jobfolder import META, SERVER, client_names, read_server
from fedgram.config.server import read_server_config
from fedgram.config.site import Reading, find_site_config
from fedgram.config.strict import from_dict, to_dict
from fedgram.data.captions import read_captions
from fedgram.data.prompts import read_prompts
from fedgram.data.vqa import read_vqa
from fedgram.files import read_tensors
from fedgram.modalities import load
from PIL import Image

Read = Callable[[], object]
Case = Callable[[Path], Read]
Cases = Iterator[tuple[str, Case]]

DIGITS = "9" * 401
DEEP = 100_000
NUL, LONE = "a\0b", "a\udcffb"


def written(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))
    return path


def fifo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)


# What may stand in the place of any file.
PLACES: Mapping[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "a directory": lambda path: path.mkdir(parents=True),
    "a FIFO": fifo,
    "a link to itself": lambda path: (path.parent.mkdir(parents=True, exist_ok=True), path.symlink_to(path)),
    "an endless device": lambda path: (
        path.parent.mkdir(parents=True, exist_ok=True),
        path.symlink_to("/dev/zero"),
    ),
    "no bytes": lambda path: written(path, b""),
    "zero bytes": lambda path: written(path, bytes(4096)),
    "no text": lambda path: written(path, bytes(range(128, 256)) * 9),
    "half a letter": lambda path: written(path, "ä = 1".encode()[:1]),
    "a picture": lambda path: written(path, picture()),
    "half a gzip": lambda path: written(path, gzip.compress(b"a,b\n1,2\n" * 99)[:40]),
    "a spreadsheet": lambda path: written(path, b"PK\x03\x04" + bytes(99)),
    "a web page": lambda path: written(path, "<!DOCTYPE html><html><body>404</body></html>"),
}
JSON = {
    "an unclosed object": '{"a": 1',
    "deep lists": "[" * DEEP + "]" * DEEP,
    "deep objects": '{"a":' * DEEP + "1" + "}" * DEEP,
    "a number alone": "7",
    "null": "null",
    "a list": "[1, 2]",
    "an empty object": "{}",
    "a number of 5000 digits": '{"a": ' + "9" * 5000 + "}",
    "a lone surrogate": '{"a": "\\ud800"}',
}


def picture(width: int = 4, height: int = 4) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height)).save(out, "PNG")
    return out.getvalue()


def bomb(size: int = 2**24) -> bytes:
    return gzip.compress(bytes([97]) * size)


class Runs:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


# --- a site's own file, and the server's

SITE = {
    "modality": '"tabular"',
    "data": '"/data/table.csv"',
    "tokenizer": '"numeric"',
    "anchors": '"/data/anchors"',
}


def site_file(**lines: str | None) -> str:
    return "".join(f"{name} = {value}\n" for name, value in (SITE | lines).items() if value is not None)


SITE_TEXTS = {
    "deep lists": site_file(concepts="[" * DEEP + "]" * DEEP),
    "deep tables": site_file() + ".".join(["a"] * 20_000) + " = 1\n",
    "deep inline tables": site_file(columns="{a=" * DEEP + "1" + "}" * DEEP),
    "a number of 401 digits": site_file(threads=DIGITS),
    "a number of 5000 digits": site_file(threads="9" * 5000),
    "a number of 5000 hexadecimal digits": site_file(threads="0x" + "f" * 5000),
    "a negative number of 401 digits": site_file(threads=f"-{DIGITS}"),
    "infinite threads": site_file(threads="inf"),
    "a truth for a number": site_file(threads="true"),
    "an absurd number of threads": site_file(threads="1000000000"),
    "an infinite window": site_file(window="[0, inf]"),
    "a window of no numbers": site_file(window="[nan, nan]"),
    "a window of 401 digits": site_file(window=f"[0, {DIGITS}]"),
    "an empty window": site_file(window="[]"),
    "a window the wrong way round": site_file(window="[9, 1]"),
    "a window of words": site_file(window='["a", "b"]'),
    "an infinite weight": site_file(bridge='{modality = "text", data = "/d", tokenizer = "t", weight = inf}'),
    "a weight of 401 digits": site_file(
        bridge=f'{{modality = "text", data = "/d", tokenizer = "t", weight = {DIGITS}}}'
    ),
    "no temperature": site_file(bridge='{modality = "text", data = "/d", tokenizer = "t", temperature = 0}'),
    "a number for a path": site_file(data="7"),
    "a date for a path": site_file(data="2026-01-01"),
    "a list for a path": site_file(data='["/a"]'),
    "a table for a path": site_file(data="{a = 1}"),
    "a relative path": site_file(data='"data.csv"'),
    "the home of nobody": site_file(data='"~nobody-of-that-name/data.csv"'),
    "a cache in the home of nobody": site_file(cache='"~nobody-of-that-name/cache"'),
    "a backbone in the home of nobody": site_file(backbones='{tiny = "~nobody-of-that-name/tiny"}'),
    "a zero byte in a path": site_file(data='"/data/a\\u0000b.csv"'),
    "a zero byte in a backbone": site_file(backbones='{tiny = "/a\\u0000b"}'),
    "a number for a backbone": site_file(backbones="{tiny = 7}"),
    "a lone surrogate": site_file(data='"/data/\\ud800.csv"'),
    "the same setting twice": site_file() + 'data = "/b"\n',
    "an unknown setting": site_file(dta='"/b"'),
    "no modality": site_file(modality=None),
    "no anchors": site_file(anchors=None),
    "a task of another kind": site_file(task='"clasification"'),
    "an unknown precision": site_file(precision='"fp7"'),
    "an unknown part to share": site_file(share='["everything"]'),
    "a word for a list": site_file(concepts='"oak"'),
    "a number among words": site_file(concepts='["oak", 7]'),
    "a list for a table": site_file(columns="[1]"),
    "an unknown column": site_file(columns='{idd = "x"}'),
    "both kinds of targets": site_file(task='"multilabel"', columns='{target = "a", targets = ["b"]}'),
    "a setting swallowed by a table": site_file() + '[columns]\nid = "x"\nwindow = [0, 1]\n',
    "JSON": json.dumps({"modality": "tabular"}),
    "a Python file": "modality = 'tabular'\ndata = open('/etc/passwd').read()\n",
}
SERVER_TEXTS = {
    "a number for a folder": "state = 7\n",
    "the home of nobody": 'state = "~nobody-of-that-name/state"\n',
    "a relative folder": 'state = "state"\n',
    "a zero byte": 'state = "/a\\u0000b"\n',
    "deep lists": "methods = " + "[" * DEEP + "]" * DEEP + "\n",
    "numbers for methods": "methods = [1]\n",
    "an unknown setting": "sate = 7\n",
}
_NO_TOML = ("no bytes", "a spreadsheet")


def site_cases() -> Cases:
    for name, text in SITE_TEXTS.items():
        yield name, lambda folder, text=text: _site(written(folder / "fedgram.toml", text))
    for name, place in PLACES.items():
        yield f"{name} for the file", lambda folder, place=place: _site_at(folder, place)
    for name, text in SERVER_TEXTS.items():
        yield f"server: {name}", lambda folder, text=text: _server(written(folder / "server.toml", text))
    for name, place in PLACES.items():
        if name not in ("nothing", "no bytes", "a link to itself"):  # no file, or an empty one: all defaults
            yield f"server: {name} for the file", lambda folder, place=place: _server_at(folder, place)


def _site(path: Path) -> Read:
    return lambda: find_site_config(path.parent, "red")


def _site_at(folder: Path, place: Callable[[Path], object]) -> Read:
    place(folder / "local/fedgram.toml")
    return lambda: find_site_config(folder / "local", "red")


def _server(path: Path) -> Read:
    return lambda: read_server_config(path)


def _server_at(folder: Path, place: Callable[[Path], object]) -> Read:
    place(folder / "server.toml")
    return lambda: read_server_config(folder / "server.toml")


# --- jobs

PIN = to_dict(AnchorPin("0" * 64, ("a",) * 4))
HUGE = int(DIGITS)
JOBS: Mapping[str, dict[str, Any]] = {
    "a rank of 401 digits": {"adapter": {"rank": HUGE}},
    "a rank of 5000 digits": {"adapter": {"rank": 1 << 17_000}},
    "an absurd rank": {"adapter": {"rank": 2**40}},
    "no rank": {"adapter": {"rank": 0}},
    "half a rank": {"adapter": {"rank": 1.5}},
    "a true rank": {"adapter": {"rank": True}},
    "an infinite alpha": {"adapter": {"alpha": float("inf")}},
    "no number for alpha": {"adapter": {"alpha": float("nan")}},
    "an alpha of 401 digits": {"adapter": {"alpha": HUGE}},
    "no targets": {"adapter": {"targets": []}},
    "a word for targets": {"adapter": {"targets": "all"}},
    "rounds of 401 digits": {"training": {"rounds": HUGE}},
    "absurd rounds": {"training": {"rounds": 10**12}},
    "absurd steps": {"training": {"local_steps": 10**15}},
    "an absurd batch": {"training": {"batch_size": 10**15}},
    "a negative batch": {"training": {"batch_size": -1}},
    "an infinite learning rate": {"training": {"learning_rate": float("inf")}},
    "no number for a learning rate": {"training": {"local_learning_rate": float("nan")}},
    "a negative learning rate": {"training": {"learning_rate": -1e-3}},
    "an infinite λ": {"training": {"geometry_weight": float("inf")}},
    "no number for λ": {"training": {"geometry_weight": float("nan")}},
    "an infinite decay": {"training": {"weight_decay": float("inf")}},
    "an unknown CKA": {"training": {"cka": "best"}},
    "a deadline of 401 digits": {"aggregation": {"deadline_seconds": HUGE}},
    "an absurd deadline": {"aggregation": {"setup_seconds": 10**15}},
    "a negative deadline": {"aggregation": {"deadline_seconds": -1}},
    "an infinite norm": {"aggregation": {"max_update_norm": float("inf")}},
    "no number for a norm": {"aggregation": {"max_update_norm": float("nan")}},
    "a u_min of no number": {"aggregation": {"u_min": float("nan")}},
    "a share of 2": {"aggregation": {"max_share": 2}},
    "an infinite server": {"aggregation": {"server_learning_rate": float("inf")}},
    "absurd sites": {"aggregation": {"min_sites": 10**15}},
    "an infinite strength": {"method": {"strength": float("inf")}},
    "an infinite temperature": {"method": {"temperature": float("inf")}},
    "a seed of 401 digits": {"seed": HUGE},
    "a word for a seed": {"seed": "7"},
    "a path for a backbone": {"backbone": {"name": "/etc"}},
    "a way up for a backbone": {"backbone": {"name": "../etc"}},
    "a zero byte in a backbone": {"backbone": {"name": NUL}},
    "a lone surrogate in a backbone": {"backbone": {"name": LONE}},
    "absurd layers": {"backbone": {"layers": 10**15}},
    "no layers": {"backbone": {"layers": 0}},
    "a sentence for a metric": {"metrics": ["the name of patient 7"]},
    "a number for a metric": {"metrics": [7]},
    "deep metrics": {"metrics": [[["a"]]]},
    "too few slots": {"anchors": {"sha256": "0" * 64, "concepts": ["a"]}},
    "no hash": {"anchors": {"sha256": "z" * 64, "concepts": ["a"] * 4}},
    "a short hash": {"anchors": {"sha256": "0", "concepts": ["a"] * 4}},
    "numbers for concepts": {"anchors": {"sha256": "0" * 64, "concepts": [1, 2, 3, 4]}},
    "absurdly many slots": {"anchors": {"sha256": "0" * 64, "concepts": ["a"] * 100_000}},
    "no anchors": {"anchors": None},
    "a list for a part": {"adapter": [1]},
    "an unknown part": {"adaptor": {}},
    "an unknown setting": {"adapter": {"ranks": 4}},
}


def job_cases() -> Cases:
    for name, changes in JOBS.items():
        settings = {"anchors": PIN, **changes}
        yield name, lambda folder, settings=settings: lambda: from_dict(JobConfig, settings, "job")
    for name, text in JSON.items():
        yield f"{name} for meta", lambda folder, text=text: _meta(written(folder / META, text).parent)
        yield (
            f"{name} for the server's part",
            lambda folder, text=text: _part(written(folder / SERVER, text), folder),
        )
    for name, place in PLACES.items():
        yield f"{name} for meta", lambda folder, place=place: (place(folder / META), _meta(folder))[1]
        yield (
            f"{name} for the server's part",
            lambda folder, p=place: (p(folder / SERVER), _part(folder, folder))[1],
        )
    for name, deploy in {"a list": [1], "numbers": {"app": 7}, "numbers in lists": {"app": [7]}}.items():
        text = json.dumps({"deploy_map": deploy})
        yield f"{name} for the deploy map", lambda folder, text=text: _meta(written(folder / META, text).parent)


def _meta(folder: Path) -> Read:
    return lambda: client_names(folder)


def _part(_path: Path, folder: Path) -> Read:
    return lambda: read_server(folder)


# --- data

TABLES = {
    "no rows": "id,concept,x\n",
    "a header twice": "id,id\n1,2\n",
    "ragged rows": "id,concept,x\n1,a\n2,b,3,4\n",
    "an open quote": 'id,concept,x\n1,"a,3\n',
    "no concept": "id,x\n1,2\n",
    "an id twice": "id,concept,x\n1,a,1\n1,b,2\n",
    "a number of 401 digits": f"id,concept,x\n1,a,{DIGITS}\n2,b,2\n",
    "a number of 5000 digits": f"id,concept,x\n1,a,{'9' * 5000}\n2,b,2\n",
    "an infinite number": "id,concept,x\n1,a,inf\n2,b,2\n",
    "a number too large for float32": "id,concept,x\n1,a,1e300\n2,b,2\n",
    "an exponent of 401 digits": f"id,concept,x\n1,a,1e{DIGITS}\n2,b,2\n",
}
LINES = {
    "deep lists": '{"id": 1, "concept": "a", "x": ' + "[" * DEEP + "]" * DEEP + "}",
    "a number of 5000 digits": '{"id": 1, "concept": "a", "x": ' + "9" * 5000 + "}",
    "an array": "[1]",
    "a lone surrogate": '{"id": 1, "concept": "\\ud800", "x": 1}',
}
FASTA = {
    "no header": "ACGT\n",
    "no sequence": ">a\n>b\n",
    "proteins": ">a\nMKLV!\n",
    "an id twice": ">a\nA\n>a\nC\n",
}
FASTQ = {"too few qualities": "@a\nACGT\n+\n!!\n", "half a record": "@a\nACGT\n"}
DICOM = bytes(128) + b"DICM"
PICTURES = {
    "half a picture": picture(64, 64)[:60],
    "a picture with a wrong checksum": picture()[:-8] + bytes(8),
    "a picture of 2³¹ pixels a side": b"\x89PNG\r\n\x1a\n"
    + b"".join(
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d))
        for n, d in [(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)), (b"IDAT", b"x")]
    ),
    "DICOM without anything": DICOM,
    "DICOM with garbage": DICOM + bytes(range(256)) * 40,
    "DICOM with an element of 4 GB": DICOM + struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 2**32 - 2),
    "DICOM in deep sequences": DICOM + struct.pack("<HH2sHI", 0x0040, 0x0275, b"SQ", 0, 2**32 - 1) * 3000,
    "a GIF of nothing": b"GIF89a" + bytes(20),
    "a TIFF that refers to itself": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "a WebP of nothing": b"RIFF\x10\0\0\0WEBPVP8 " + bytes(10),
}


def data_cases() -> Cases:
    for modality, name in (("tabular", "a.csv"), ("text", "a.csv"), ("genomics", "a.fasta"), ("image", "a.csv")):
        for what, place in PLACES.items():
            yield (
                f"{modality}: {what}",
                lambda folder, place=place, m=modality, n=name: (place(folder / n), _data(m, folder / n))[1],
            )
        yield (
            f"{modality}: a bomb",
            lambda folder, m=modality, n=name: _data(m, written(folder / f"{n}.gz", bomb())),
        )
        for what, odd in {"zero byte": NUL, "lone surrogate": LONE}.items():
            yield f"{modality}: a {what} in the path", lambda folder, m=modality, n=odd: _data(m, folder / n)
    for what, text in TABLES.items():
        yield (
            f"table: {what}",
            lambda folder, text=text: _data("tabular", written(folder / "a.csv", text), fit=True),
        )
    for what, text in LINES.items():
        yield f"lines: {what}", lambda folder, text=text: _data("tabular", written(folder / "a.jsonl", text))
    yield "parquet: none", lambda folder: _data("tabular", written(folder / "a.parquet", "PAR1"))
    for what, text in FASTA.items():
        yield f"FASTA: {what}", lambda folder, text=text: _data("genomics", written(folder / "a.fasta", text))
    for what, text in FASTQ.items():
        yield f"FASTQ: {what}", lambda folder, text=text: _data("genomics", written(folder / "a.fastq", text))
    for what, content in PICTURES.items():
        yield f"picture: {what}", lambda folder, c=content: _picture(written(folder / "oak/1.png", c).parents[1])
    for what, place in PLACES.items():
        if what not in ("nothing", "a picture"):
            yield (
                f"picture: {what} in the folder",
                lambda folder, place=place: (
                    written(folder / "oak/1.png", picture()),
                    place(folder / "oak/2.png"),
                    _picture(folder),
                )[2],
            )
    for what, cell in {"zero byte": "a\0b.png", "way up": "../../etc/passwd", "device": "/dev/zero"}.items():
        yield (
            f"picture: a {what} in a table",
            lambda folder, c=cell: _data(
                "image", written(folder / "a.csv", f"id,concept,path\n1,a,{c}\n2,b,{c}\n")
            ),
        )
    for what, text in JSON.items():
        yield f"captions: {what}", lambda folder, text=text: _captions(written(folder / "a.json", text))
        yield f"questions: {what}", lambda folder, text=text: _questions(written(folder / "questions.json", text))
        yield f"prompts: {what}", lambda folder, text=text: _prompts(written(folder / "a.jsonl", text))


def _data(modality: str, path: Path, fit: bool = False) -> Read:
    def read() -> object:
        kind = load(modality)
        samples = kind.read(path, Reading())
        return kind.tokenizer("numeric", samples) if fit else samples

    return read


def _picture(folder: Path) -> Read:
    """Reads a folder of pictures, and opens them as training does."""

    def read() -> object:
        from fedgram.data.pixels import open_image

        samples = load("image").read(folder, Reading())
        return [open_image(sample.content) for sample in samples]

    return read


def _captions(path: Path) -> Read:
    return lambda: read_captions(path)


def _questions(path: Path) -> Read:
    return lambda: read_vqa(path.parent)


def _prompts(path: Path) -> Read:
    return lambda: read_prompts(path)


# --- anchors


def anchor_set(folder: Path, **changes: Any) -> Path:
    """A set of one slot, with other entries for its file."""
    content = b"a text"
    written(folder / "text/1.txt", content)
    file = {
        "path": "text/1.txt",
        "sha256": sha256(content).hexdigest(),
        "origin": "real",
        "licence": "CC0-1.0",
        "source": "made in the test",
    }
    top = {
        "format": 1,
        "name": "set",
        "slots": [{"id": "1", "concept": "oak", "files": {"text": {**file, **changes}}}],
    }
    written(folder / "manifest.json", json.dumps(top))
    return folder


MANIFESTS: Mapping[str, object] = {
    "another format": {"format": 2, "name": "a", "slots": []},
    "a true format": {"format": True, "name": "a", "slots": [{"id": "1", "concept": "a", "files": {}}]},
    "no slots": {"format": 1, "name": "a", "slots": []},
    "a table for slots": {"format": 1, "name": "a", "slots": {"a": 1}},
    "numbers for slots": {"format": 1, "name": "a", "slots": [1]},
    "a slot twice": {"format": 1, "name": "a", "slots": [{"id": "1", "concept": "a", "files": {}}] * 2},
    "a number for a concept": {"format": 1, "name": "a", "slots": [{"id": "1", "concept": 7, "files": {}}]},
    "a list for an id": {"format": 1, "name": "a", "slots": [{"id": [1], "concept": "a", "files": {}}]},
    "a list for files": {"format": 1, "name": "a", "slots": [{"id": "1", "concept": "a", "files": [1]}]},
    "a number for a file": {
        "format": 1,
        "name": "a",
        "slots": [{"id": "1", "concept": "a", "files": {"text": 7}}],
    },
}
FILES: Mapping[str, dict[str, Any]] = {
    "an edited file": {"sha256": "0" * 64},
    "no hash": {"sha256": None},
    "a way up": {"path": "../1.txt"},
    "an absolute path": {"path": "/etc/passwd"},
    "a zero byte": {"path": "text/a\0b"},
    "a lone surrogate": {"path": "text/\ud800"},
    "a folder": {"path": "text"},
    "nothing for a path": {"path": ""},
    "a number for a path": {"path": 7},
    "a number for a licence": {"licence": 7},
    "another origin": {"origin": "dreamt"},
    "a list for an origin": {"origin": ["real"]},
    "an unknown entry": {"colour": "red"},
    "a real file that was made": {"made": {"generator": "x"}},
    "the manifest itself": {"path": "manifest.json"},
}
_BESIDE = ("a directory",)


def anchor_cases() -> Cases:
    for name, text in JSON.items():
        yield (
            f"{name} for the manifest",
            lambda folder, text=text: _anchors(written(folder / "manifest.json", text).parent),
        )
    for name, place in PLACES.items():
        yield (
            f"{name} for the manifest",
            lambda folder, p=place: (p(folder / "manifest.json"), _anchors(folder))[1],
        )
        if name != "nothing":
            yield (
                f"{name} for a file",
                lambda folder, p=place: (
                    (anchor_set(folder) / "text/1.txt").unlink(),
                    p(folder / "text/1.txt"),
                    _anchors(folder),
                )[2],
            )
        if name not in ("nothing", *_BESIDE):
            yield (
                f"{name} beside the files",
                lambda folder, p=place: (p(anchor_set(folder) / "x"), _anchors(folder))[1],
            )
    for name, manifest in MANIFESTS.items():
        text = json.dumps(manifest)
        yield (
            f"{name} in the manifest",
            lambda folder, text=text: _anchors(written(folder / "manifest.json", text).parent),
        )
    for name, changes in FILES.items():
        yield f"{name} in a slot", lambda folder, changes=changes: _anchors(anchor_set(folder, **changes))


def _anchors(folder: Path) -> Read:
    return lambda: load_anchors(folder)


# --- weights

CONFIG = {
    "model_type": "bert",
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 8,
}
CONFIGS: Mapping[str, dict[str, Any]] = {
    "an unknown model": {"model_type": "fedgramish"},
    "code of its own": {
        "model_type": "mine",
        "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"},
    },
    "no width": {"hidden_size": 0},
    "a negative width": {"hidden_size": -8},
    "a width of 401 digits": {"hidden_size": HUGE},
    "a word for a width": {"hidden_size": "wide"},
    "an absurd width": {"hidden_size": 2**40},
    "absurd layers": {"num_hidden_layers": 10**9},
    "a word for layers": {"num_hidden_layers": "many"},
    "an absurd vocabulary": {"vocab_size": 2**40},
    "heads that do not divide": {"num_attention_heads": 3},
    "an unknown activation": {"hidden_act": "magic"},
}


def weight_cases() -> Cases:
    for name, changes in CONFIGS.items():
        text = json.dumps(CONFIG | changes)
        yield name, lambda folder, text=text: _weights(written(folder / "config.json", text).parent)
    for name, text in JSON.items():
        yield (
            f"{name} for the configuration",
            lambda f, text=text: _weights(written(f / "config.json", text).parent),
        )
    for name, place in PLACES.items():
        yield f"{name} for the configuration", lambda f, p=place: (p(f / "config.json"), _weights(f))[1]
        yield (
            f"{name} for the weights",
            lambda f, p=place: (p(_configured(f) / "model.safetensors"), _weights(f))[1],
        )
    header = struct.pack("<Q", 2**60) + b"{}"
    yield (
        "a header of an exabyte",
        lambda f: _weights(written(_configured(f) / "model.safetensors", header).parent),
    )
    yield (
        "a pickle that runs",
        lambda f: _weights(written(_configured(f) / "pytorch_model.bin", running(f)).parent),
    )
    yield (
        "half a pickle",
        lambda f: _weights(written(_configured(f) / "pytorch_model.bin", running(f)[:20]).parent),
    )
    yield "a state of a pickle", lambda f: _state(written(f / "round-00001.safetensors", running(f)))
    for name, place in PLACES.items():
        yield f"{name} for a state", lambda f, p=place: (p(f / "a.safetensors"), _state(f / "a.safetensors"))[1]


def running(folder: Path) -> bytes:
    return pickle.dumps({"bert.x": Runs(folder / "ran")})


def _configured(folder: Path) -> Path:
    return written(folder / "config.json", json.dumps(CONFIG)).parent


def _weights(folder: Path) -> Read:
    def read() -> object:
        from fedgram.model.backbone import load_backbone

        return load_backbone(BackboneConfig("tiny"), {"tiny": str(folder)}, "fp32")

    return read


def _state(path: Path) -> Read:
    return lambda: read_tensors(path, "none")


GROUPS: Mapping[str, Callable[[], Cases]] = {
    "site files": site_cases,
    "jobs": job_cases,
    "data": data_cases,
    "anchors": anchor_cases,
    "weights": weight_cases,
}
