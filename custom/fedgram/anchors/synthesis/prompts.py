"""Sentences from templates and facts: text anchors by themselves, or prompts for a language or image model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

import numpy as np

from fedgram.anchors.synthesis import Generator
from fedgram.data.tables import read_table, require_column
from fedgram.errors import AnchorError

CONCEPT = "concept"


@dataclass(frozen=True)
class Prompts:
    """Templates with ``{concept}`` and a ``{column}`` for each column of the facts.

    Attributes:
        templates: at least one.
        facts: rows of the facts by concept; none when there is no table.
    """

    templates: tuple[str, ...]
    facts: Mapping[str, tuple[Mapping[str, str], ...]]

    def of(self, concept: str) -> list[str]:
        """Fill every template with every row of facts that has what it names, without repetitions.

        Raises:
            AnchorError: there is none.
        """
        rows = [{CONCEPT: concept, **row} for row in self.facts.get(concept, ({},))]
        filled = [
            template.format_map(row)
            for template in self.templates
            for row in rows
            if all(row.get(field) for field in fields(template))
        ]
        if not filled:
            raise AnchorError(
                f"no facts for concept {concept!r}",
                where="facts",
                expected=f"a row with {', '.join(sorted(set().union(*map(fields, self.templates))))}",
                remedy="add one, or a template that names nothing but {concept}",
            )
        return list(dict.fromkeys(filled))


def fields(template: str) -> set[str]:
    """The names in braces of a template.

    Raises:
        AnchorError: it is not a template, or looks inside a value (``{a.b}``, ``{a[0]}``).
    """
    try:
        found = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise AnchorError(f"not a template ({error})", where=template, expected="text with {concept}") from None
    if not all(name.isidentifier() for name in found):
        raise AnchorError("not a template", where=template, expected="names of columns in braces, {concept}")
    return found


def read_prompts(templates: Sequence[str], facts: Path | None = None) -> Prompts:
    """Read templates, and the table (CSV or JSONL) of what is known of each concept, one row for each fact.

    Raises:
        AnchorError: no template, or one that names something else than ``concept`` and the table's columns.
        DataError: the table cannot be read.
    """
    if not templates:
        raise AnchorError("no template", where="--template", expected="text with {concept} in it")
    table = read_table(facts) if facts else None
    if table is not None and facts is not None:
        require_column(table, CONCEPT, facts, CONCEPT)
    columns = set() if table is None else set(table.columns)
    for template in templates:
        unknown = sorted(fields(template) - columns - {CONCEPT})
        if unknown:
            expected = ", ".join(f"{{{name}}}" for name in sorted({CONCEPT, *columns}))
            raise AnchorError(f"unknown {{{unknown[0]}}}", where=template, expected=expected)
    rows: dict[str, list[Mapping[str, str]]] = {}
    for row in [] if table is None else table.to_dict("records"):
        rows.setdefault(row[CONCEPT], []).append({str(k): str(v) for k, v in row.items()})
    return Prompts(tuple(templates), {concept: tuple(found) for concept, found in rows.items()})


def sentences(prompts: Prompts) -> Generator:
    """Make a generator whose texts are the filled templates themselves, each used once."""

    def draw(concept: str, seeds: Sequence[int]) -> list[bytes]:
        texts = prompts.of(concept)
        if len(texts) < len(seeds):
            raise AnchorError(
                f"{len(texts)} texts for {len(seeds)} empty slots",
                where=f"{concept}, text",
                expected="as many pairs of template and fact as there are empty slots",
                remedy="add templates or facts",
            )
        order = np.random.default_rng(list(seeds)).permutation(len(texts))
        return [f"{texts[i]}\n".encode() for i in order[: len(seeds)]]

    return Generator("text", ".txt", {"generator": "template", "templates": list(prompts.templates)}, draw)
