"""The sites of the embedded demo of FedUMM, dealt again: ``python -m research.partition.demo``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from fedgram.demo import fedumm

from research.partition.shares import deal

ALPHA = 0.5


def sites(folder: Path) -> dict[str, str]:
    """The digit of the site of each question and of each caption, in the order of their ids.

    Args:
        folder: for the drawn scenes and the demo's unpacked pictures.
    """
    questions, captions = fedumm.draw_items(folder, folder)
    shares = deal(questions, captions, fedumm.SITES, ALPHA, fedumm.SEED, "concept")
    dealt = {name[-1]: share for name, share in shares.items()}
    return {
        "questions": _digits({int(q.id): site for site, share in dealt.items() for q in share.questions}),
        "captions": _digits({int(c.id): site for site, share in dealt.items() for c in share.captions}),
    }


def _digits(site_of: Mapping[int, str]) -> str:
    return "".join(site_of[number] for number in range(1, len(site_of) + 1))


def main() -> None:
    """Write :data:`fedgram.demo.fedumm.DEALT`."""
    with tempfile.TemporaryDirectory() as drawn:
        fedumm.DEALT.write_text(json.dumps(sites(Path(drawn)), indent=2) + "\n")


if __name__ == "__main__":
    main()
