"""The embedded demo of FedUMM, and the figure of a federation of unified sites."""

from __future__ import annotations

import io
import json
import re
import threading
from collections import Counter
from pathlib import Path

import pytest
import unified_toy
from fedgram.data.captions import read_captions
from fedgram.data.prompts import read_prompts
from fedgram.data.vqa import read_vqa
from fedgram.demo.names import locate
from fedgram.errors import CheckpointError, DataError
from fedgram.results import unified_report as report
from fedgram.training.loop import run_federation
from rich.console import Console


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sites at once ask for demo data that are not there yet."""
    cache, errors = tmp_path_factory.mktemp("cache"), []

    def ask() -> None:
        try:
            locate("demo:fedumm/site-1", cache)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    return cache


def test_four_sites_have_questions_and_captions_of_different_things(cache: Path):
    concepts = []
    for number in range(1, 5):
        folder = locate(f"demo:fedumm/site-{number}", cache)
        questions, captions = read_vqa(folder), read_captions(folder / "captions.jsonl")
        assert len(questions) > 200
        assert len(captions) > 1000
        concepts.append(Counter(item.concept for item in (*questions, *captions)))
    assert all(count.keys() & {"square", "circle", "triangle", "star"} for count in concepts)
    assert sum(bool(count.keys() & {"dog", "cat", "bear"}) for count in concepts) >= 1
    shares = [count["square"] / count.total() for count in concepts]
    assert max(shares) > 3 * min(shares)  # α = 0.5
    assert {p.tag for p in read_prompts(locate("demo:fedumm/prompts.jsonl", cache))} >= {
        "counting",
        "position",
    }
    assert len(list((cache / "demo").glob("fedumm-*"))) == 1
    assert len(list((cache / "demo").glob("tmp*"))) == 0


def test_what_is_rehearsed_has_words_that_the_base_knows(cache: Path):
    captions = read_captions(locate("demo:fedumm/rehearsal/captions.jsonl", cache))
    assert len(captions) == 2400
    words = Counter(word for caption in captions for word in caption.text.split())
    assert words.keys() >= {"red", "circle", "two", "above"}
    assert not words.keys() & {"purple", "orange", "star", "stars"}


def test_other_names_are_those_of_the_rest_of_the_demo(cache: Path):
    assert locate("demo:carnivora/text", cache).is_file()
    assert locate("/somewhere", cache) == Path("/somewhere")
    with pytest.raises(DataError, match="no such demo data"):
        locate("demo:fedumm/site-9", cache)
    with pytest.raises(DataError, match="no such demo data"):
        locate("demo:fedum/site-1", cache)


def test_the_figure_shows_the_sites_before_and_after(tmp_path: Path):
    toy = unified_toy.make(tmp_path / "toy").only("one", "answers").with_job(baseline=False)
    outcome = run_federation(toy.sessions(tmp_path / "sites"), toy.job, tmp_path / "server")
    folders = [tmp_path / "sites" / name / "result" for name in toy.sites]
    shown = io.StringIO()
    report.write(folders, tmp_path, Console(file=shown, width=120))
    found = json.loads((tmp_path / "unified.json").read_text())
    for name, evaluation in outcome.together.items():
        measured = {k: v for k, v in evaluation.metrics.items() if k in found["after"][name]}
        assert found["after"][name] == pytest.approx(measured, rel=1e-4)
        assert found["before"][name]["understanding_loss"] != found["after"][name]["understanding_loss"]
    assert "geneval" in found["after"]["one"]
    assert (tmp_path / "unified.png").stat().st_size > 20_000
    assert "GenEval, counting" in shown.getvalue()
    assert re.search(r"\d of 8 answers right before, \d after; \d of 6 pictures right before", shown.getvalue())


def test_what_the_figure_shows_is_drawn_by_the_seed(tmp_path: Path):
    """Of every skill one prompt before a second of any, as many questions of each site; another seed, others."""
    drawn = []
    for seed in (0, 0, 1):
        toy = unified_toy.make(tmp_path / f"toy-{len(drawn)}").only("one", "answers").with_job(seed=seed)
        sites = [session.site for session in toy.sessions(tmp_path / f"sites-{len(drawn)}").values()]
        questions, prompts = report._chosen(sites), report._prompts(sites)
        assert len(prompts) == len({prompt.tag for prompt in prompts}) == 6
        assert len(questions) == 8
        assert Counter(site.name for site, _ in questions) == {site.name: 4 for site in sites}
        drawn.append(([q.text for _, q in questions], [p.text for p in prompts]))
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_a_damaged_result_is_refused(tmp_path: Path):
    with pytest.raises(CheckpointError, match="no result"):
        report.write([tmp_path], tmp_path, Console(file=io.StringIO()))
