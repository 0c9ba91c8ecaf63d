"""The lists of attacks, objectives and models in docs/api: `python -m docs.pages` writes them.

They follow from what a config may name, the attacks by their traits.
"""

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from adv_jax import attacks, generative, models, objectives
from adv_jax.attacks import Rank, Traits
from docs.docstrings import cited, names_of_works
from papers.pages.markup import markdown, with_generated

API = Path(__file__).parent / "api"
# Headings in the order of the page; `group` names one for each attack.
ONE_STEP, BALL, SMALLEST = "One step", "Many steps inside a ball", "The smallest perturbation"
FORWARD, CONTROLS = "By values of the model alone", "Controls"


def group(traits: Traits) -> str:
    """Returns the heading under which the reference lists an attack.

    >>> group(attacks.fgsm.traits), group(attacks.square.traits)
    ('One step', 'By values of the model alone')
    """
    if not traits.aimed:
        return CONTROLS
    if not traits.gradient:
        return FORWARD
    if traits.rank == Rank.ONE_STEP:
        return ONE_STEP
    in_ball = traits.size == "eps" and (traits.rank == Rank.ENSEMBLE or not traits.minimal)
    return BALL if in_ball else SMALLEST


def pages() -> dict[Path, str]:
    """Returns the content of each page with a generated part by its path."""
    groups: dict[str, list[str]] = {ONE_STEP: [], BALL: [], SMALLEST: [], FORWARD: [], CONTROLS: []}
    for name in attacks.__all__:
        groups[group(getattr(attacks, name).traits)].append(name)
    parts = {
        "attacks.md": [_section(title, _summary(names)) for title, names in groups.items()],
        "training.md": [_objectives(objectives)],
        "models.md": _modules(models),
        "generative.md": _modules(generative.models),
    }
    return {API / name: with_generated(API / name, "\n".join(p)) for name, p in parts.items()}


def _objectives(package: Any) -> str:
    """Returns a table of what each objective computes, in the words of its docstring."""
    rows = []
    for name in package.__all__:
        text = inspect.getdoc(getattr(package, name)) or ""
        loss = " ".join(text.partition("\n\n")[0].split()).removeprefix("Returns ")
        keys = dict.fromkeys(cited(text.rpartition("Source")[2]))
        works = [f"[{names_of_works()[key]}](../REFERENCES.md#{key})" for key in keys]
        rows.append((f"`{name}`", loss.removesuffix("."), ", ".join(works)))
    return markdown(("objective", "loss", "source"), rows)


def _modules(package: Any) -> list[str]:
    """Returns a section for each module of the models that a config may name."""
    names = sorted({getattr(package, name).__module__ for name in package.__all__})
    return [_section(f"`{name}`", [f".. automodule:: {name}"]) for name in names]


def _summary(names: Iterable[str]) -> list[str]:
    options = (".. autosummary::", "   :toctree: generated", "   :nosignatures:", "")
    return [".. currentmodule:: adv_jax.attacks", *options, *(f"   {name}" for name in names)]


def _section(title: str, lines: Iterable[str]) -> str:
    return "\n".join([f"## {title}\n", "```{eval-rst}", *lines, "```\n"])
