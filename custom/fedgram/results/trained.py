"""A site's trained model in use, on contents of its modality, alone or together with another site's."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from fedgram.core.directory import Directory
from fedgram.errors import CheckpointError
from fedgram.modalities.base import RemarkingTokenizer
from fedgram.model.tasks.base import Prediction, mixed
from fedgram.model.unified.base import UnifiedModel
from fedgram.records import Sample, Tokens
from fedgram.results import crossmodal
from fedgram.results.asked import read_asked
from fedgram.results.crossmodal import Embedded, Match
from fedgram.scoring.frozen import FrozenLinear
from fedgram.sites.kept import lent, read_facts
from fedgram.sites.opening import reopen_site, reopen_unified
from fedgram.sites.settled import DIRECTORY, FROZEN, HOME, TOGETHER, Kept, read_settled
from fedgram.sites.single import SingleSite
from fedgram.training.directory import answerable, logits

log = logging.getLogger("fedgram.tokens")

# Of a result, seen from a folder that somebody names: itself, a site's, a workspace's, a simulator's.
_PLACES = ("", "result/", "*/result/", "fedgram/*/result/", "*/fedgram/*/result/")


@dataclass(frozen=True)
class Trained:
    """A site's model as it was at the end of its run.

    Contents are what :func:`~fedgram.results.asked.read_asked` takes: files of one sample or of many, folders, a
    data frame, dictionaries, contents in the form of the site's modality, or samples of :meth:`read`. A bridge
    site has a second ``channel``, 1: it shares the space of the first, so cosines between the two mean something,
    and the anchors of the first serve both.

    Attributes:
        site: with the federation's model, which represents contents.
        kept: the mixture that predicts.
        home: all that trained alone, where the mixture has a part of it.
        directory: of the concepts that sites have shared; None where none has.
        frozen: the regression on frozen tokens, where the mixture has a part of it.
    """

    site: SingleSite
    kept: Kept = field(default_factory=lambda: Kept.alone(TOGETHER, "together: nothing else is known"))
    home: Mapping[str, Tensor] = field(default_factory=dict)
    directory: Directory | None = None
    frozen: FrozenLinear | None = None

    def embed(self, contents: Any, *, channel: int = 0) -> Tensor:
        """Represent contents as z, (N, d), float32, comparable within this site only: see :meth:`coordinates`."""
        return self.gallery(contents, channel=channel).z

    def coordinates(self, contents: Any, *, channel: int = 0) -> Tensor:
        """Anchor coordinates, (N, b), which can be compared with another site's over the slots of both."""
        return self.gallery(contents, channel=channel).coordinates(self.site.anchors.slots)

    def predict(self, contents: Any) -> list[Prediction]:
        """The answer to each content of what the site keeps: its own model, the federation's, or a mixture."""
        site, tokens = self.site, self._tokens(contents)
        answers = {}
        if self.kept.weights[TOGETHER] > 0:
            answers[TOGETHER] = site.outputs(tokens)
        if self.kept.weights[HOME] > 0:
            with lent(site, self.home, Path(HOME)):
                answers[HOME] = site.outputs(tokens)
        if self.directory is not None and self.kept.weights[DIRECTORY] > 0:
            answers[DIRECTORY] = logits(site, self.directory, tokens)
        if self.frozen is not None:
            answers[FROZEN] = self.frozen(tokens)
        return site.task.predictions(mixed(site.task, answers, self.kept.weights))

    def gallery(self, contents: Any, ids: Sequence[str] | None = None, *, channel: int = 0) -> Embedded:
        """Contents to search in.

        Args:
            ids: names them in the answers, instead of those of :meth:`read`.
            channel: of the contents; 1 is the second modality of a bridge site.

        Raises:
            ConfigError: the site has no second modality.
        """
        samples = self._asked(contents, channel)
        if ids is not None:
            samples = [replace(sample, id=name) for sample, name in zip(samples, ids, strict=True)]
        return crossmodal.embed(self.site, samples, channel=channel)

    def retrieve(self, contents: Any, gallery: Trained | Embedded, k: int = 5) -> list[list[Match]]:
        """Find for each content the k nearest of another modality, in the frame of both sites' anchors.

        Args:
            gallery: of another site; a site itself stands for its own test samples.
        """
        return crossmodal.nearest(self.gallery(contents), _embedded(gallery, "test"), k)

    def classify(self, contents: Any, teacher: Trained | None = None) -> list[Match]:
        """Name the concept of each content, among those that sites of other modalities have labels of.

        Args:
            teacher: a site whose training samples teach the concepts; without one the directory that came with
                this result does, and no other site's data are needed.

        Raises:
            CheckpointError: no site of the run has shared concepts.
        """
        if teacher is not None:
            return crossmodal.named_by(self.gallery(contents), _embedded(teacher, "train"))
        return crossmodal.named_in(self.site, self._tokens(contents), self.directory)

    def read(self, contents: Any, *, channel: int = 0) -> list[Sample]:
        """Read contents as samples of the site's modality, with the ids and in the order of all answers.

        Raises:
            DataError: nothing is there, or a file cannot be read.
        """
        config = self.site.config
        reading = config.reading if channel == 0 or config.bridge is None else config.bridge.reading
        return read_asked(self.site.channel(channel).modality, contents, reading, self.site.name)

    def _tokens(self, contents: Any) -> Tokens:
        return self.site.channel(0).tokens_of([sample.content for sample in self._asked(contents)])

    def _asked(self, contents: Any, channel: int = 0) -> list[Sample]:
        """Read contents, and log what the tokenizer takes otherwise than somebody who asks may think."""
        samples, tokenizer = self.read(contents, channel=channel), self.site.channel(channel).tokenizer
        if isinstance(tokenizer, RemarkingTokenizer):
            for remark in tokenizer.remarks([sample.content for sample in samples]):
                log.warning("%s: %s", self.site.name, remark)
        return samples


def _embedded(gallery: Trained | Embedded, split: str) -> Embedded:
    if isinstance(gallery, Embedded):
        return gallery
    return crossmodal.embed(gallery.site, gallery.site.samples(split))


def load(folder: str | Path, site: str | None = None) -> Trained:
    """Open a site's model, from its result folder or from a workspace that holds it.

    Args:
        folder: ``result`` of a site, or a folder above it.
        site: which one, where there are several.

    Raises:
        CheckpointError: no such result, several of them, or a damaged one.
        FedgramError: what it needs is no longer there (base, encoder, anchors; of the training data nothing, but
            TabPFN keeps no statistics: its context are the training rows), or not the same.
    """
    result = find_result(Path(folder).expanduser(), site)
    opened = reopen_site(result)
    found = read_settled(result, read_facts(result)[0])
    if found.home:
        with lent(opened, found.home, result / HOME):
            pass  # it fits
    if found.kept.weights[DIRECTORY] > 0 and not answerable(opened, found.directory):
        raise CheckpointError("a directory without the site's classes", where=result, remedy="run the job again")
    shape = getattr(opened.model.head, "out_features", 0), opened.channel(0).tokenizer.width
    if found.frozen is not None and found.frozen.weight.shape != shape:
        raise CheckpointError("a regression on other tokens", where=result, remedy="run the job again")
    return Trained(opened, found.kept, found.home, found.directory, found.frozen)


def load_unified(folder: str | Path, site: str | None = None) -> UnifiedModel:
    """Open the unified model that a site ended with, ready to be asked; the site's data are not needed.

    Args:
        folder: ``result`` of a site, or a folder above it.
        site: which one, where there are several.

    Raises:
        CheckpointError: no such result, several of them, or a damaged one.
        ConfigError: the result of a site of one modality.
        BackboneError: the base cannot be loaded any more, or has other weights.
    """
    return reopen_unified(find_result(Path(folder).expanduser(), site))


def find_result(folder: Path, site: str | None) -> Path:
    """Find the result folder of a site in or below a folder.

    Raises:
        CheckpointError: there is none, or more than one.
    """
    found = {_site_of(path): path.parent for path in _results(folder)}
    if site is None and len(found) == 1:
        return next(iter(found.values()))
    if site not in found:
        raise CheckpointError(
            f"{len(found)} results of sites" if site is None else f"no result of site {site!r}",
            where=folder,
            expected=f"site = one of {', '.join(sorted(found))}" if found else "a folder with site.json",
        )
    return found[site]


def holds_result(folder: Path) -> bool:
    """Whether there is the result of a site in or below a folder."""
    return any(True for _ in _results(folder))


def _results(folder: Path) -> Iterator[Path]:
    return (path for place in _PLACES for path in folder.glob(f"{place}/site.json".lstrip("/")))


def _site_of(path: Path) -> str:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["site"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"damaged ({type(error).__name__})", where=path) from None
