"""Formats printed and measured numbers, and what they are of, for the generated pages."""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from papers.judging.documents import data_in_words
from papers.judging.numbers import Entry
from papers.judging.words import FULL, epochs_in_words, extent_of, seeds_in_words


def our_number(
    value: float | None, sd: float | None = None, n: int | None = None, unit: str = " %"
) -> str:
    """Returns a mean of ours, as exact as its sd or to three decimals, with sd and runs."""
    if value is None:
        return "–"
    text = f"{value:.{max(3, decimals(sd))}f}" if sd else f"{value:.4g}"
    return text + unit + _spread(None if sd is None else two_digits(sd), n)


def two_digits(sd: float) -> str:
    """Formats a standard deviation to two digits.

    >>> two_digits(0.0204), two_digits(2.0), two_digits(9.96), two_digits(123.0)
    ('0.020', '2.0', '10', '120')
    """
    return f"{float(f'{sd:.1e}'):.{decimals(sd)}f}"


def decimals(sd: float) -> int:
    """Returns the decimals of a number that has the last digit of `two_digits`.

    >>> decimals(0.0204), decimals(0.0996), decimals(2.0), decimals(123.0), decimals(0.0)
    (3, 2, 1, 0, 1)
    """
    if not sd:
        return 1
    return max(1 - math.floor(math.log10(float(f"{sd:.1e}"))), 0)


def paper_number(
    value: float | None, sd: float | None = None, n: int | None = None, unit: str = " %"
) -> str:
    """Returns a number of a paper, with the digits that it has there."""
    spread = _spread(None if sd is None else f"{sd:g}", n)
    return "–" if value is None else f"{value:g}{unit}{spread}"


def _spread(sd: str | None, n: int | None) -> str:
    parts = ([f"sd {sd}"] if sd else []) + ([f"n = {n}"] if n else [])
    return f" ({', '.join(parts)})" if parts else ""


def in_words(value: Any) -> str:
    """Formats what a paper prints: a number, several, or words."""
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {in_words(entry)}" for key, entry in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        nested = any(isinstance(entry, Sequence) for entry in value)
        return ("; " if nested else ", ").join(map(in_words, value))
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def runs_in_words(target: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the seeds, epochs and data of measured rows: "seeds 1, 2; 150 epochs; full MNIST".

    Rows that are compared are paired by seed: the seeds are those that they share, if any.
    """
    trained = [target["trainings"][row["training"]] for row in rows if row["values"]]
    if not trained:
        return ""
    seeds = [{int(seed) for seed in row["values"]} for row in rows if row["values"]]
    return trained_in_words(
        set.intersection(*seeds) or set.union(*seeds),
        length_in_words(target["budget"], trained),
        [training["data"] for training in trained],
    )


def length_in_words(budget: str, trainings: Sequence[Mapping[str, Any]]) -> str:
    """Returns the epochs of trainings, of fewer with the paper's: "4 of 100 epochs"."""
    epochs = [number for training in trainings for number in training["epochs"]]
    is_full = extent_of(budget) == FULL
    allowed = [] if is_full else [training["paper_epochs"] for training in trainings]
    return epochs_in_words(epochs, allowed)


def trained_in_words(seeds: Iterable[int], epochs: str, data: Sequence[Mapping[str, Any]]) -> str:
    """Returns "seeds 1, 2; 150 epochs; full MNIST"."""
    names = dict.fromkeys(map(data_in_words, data))
    return "; ".join([seeds_in_words(sorted(set(seeds))), epochs, *names])


def words_of_key(key: str) -> str:
    """Returns a training's key in words: its config, the options and the fields that differ.

    The training that it starts from or refers to stands in brackets.

    >>> words_of_key("ladder_mnist:table=6,noise=udg replicas.seeds=2")
    'ladder_mnist: table 6, noise udg; replicas.seeds 2'
    >>> words_of_key("a_mnist:pretrained={source} replicas.seeds=2 on b_mnist:labels=100 seed=1")
    'a_mnist: pretrained (b_mnist: labels 100; seed 1); replicas.seeds 2'
    """
    key, _, source = key.partition(" on ")
    options, *fields = key.split(" ")
    config, _, options = options.partition(":")
    parts = [f"{config}: {options}" if options else config, *fields]
    words = "; ".join(parts).replace(",", ", ").replace("=", " ").replace("'", "")
    return words.replace("{source}", f"({words_of_key(source)})") if source else words


def distinct_parts(labels: Sequence[str]) -> list[str]:
    """Returns labels without the parts that all of them begin or end with, with colons.

    >>> distinct_parts(["LWA, c 1, clean", "Goodfellow, c 1, clean"])
    ['LWA:', 'Goodfellow:']
    """
    parts = [label.split(", ") for label in labels]
    for _ in range(2):  # the beginnings, then the ends
        while len({own[0] for own in parts}) == 1 and min(map(len, parts)) > 1:
            parts = [own[1:] for own in parts]
        parts = [own[::-1] for own in parts]
    return [f"{', '.join(own)}:" for own in parts]


def distinct_words(labels: Sequence[str]) -> list[str]:
    """Returns labels without the words that all of them begin with, with colons.

    >>> distinct_words(["error, eps 0", "error, eps 0.1"])
    ['0:', '0.1:']
    """
    words = [label.split(" ") for label in labels]
    columns = zip(*words, strict=False)
    begin = sum(1 for _ in itertools.takewhile(lambda column: len(set(column)) == 1, columns))
    return [f"{' '.join(own[begin:])}:" for own in words]


def place_of(entry: Entry) -> str:
    """Returns the place of an entry: "Table 5"."""
    return re.split(r"[,(]", entry["where"])[0].strip()


def label_of(entry: Entry) -> str:
    """Returns the sentence of a claim, or what a number measures."""
    if entry["kind"] == "claim":
        return entry["claim"]
    if entry["kind"] == "worked_example":
        return entry["metric"]
    if "labels" in entry:  # a cell of Maronas
        place = entry["where"].partition("), ")[2]
        if place:
            return place.removeprefix("row ").replace("u_", "")
        labels = "all" if entry["labels"] == "full" else entry["labels"]
        printed = {k: v for k, v in entry.items() if k != "meant"} if "meant" in entry else {}
        label = f"{entry['model'].replace('_', ' ')}, {labels} labels, {_noise(entry)}"
        return label + (f" (misprinted as {_noise(printed)})" if printed else "")
    parts = [entry.get(name) for name in ("model", "training", "evaluation")]
    return ", ".join(str(part) for part in parts if part)


def _noise(entry: Entry) -> str:
    """Returns the adversarial noise of a ladder, what is meant where a caption is misprinted."""
    entry = entry | entry.get("meant", {})
    kinds = ("supervised", "unsupervised")
    named = [
        f"{entry[f'noise_{kind}'].partition(' ')[0]} {entry.get(f'tau_{kind}', ''):g}"
        for kind in kinds
        if entry.get(f"noise_{kind}", "none") != "none"
    ]
    return " and ".join(named) or "no adversarial noise"


def said(entry: Entry) -> str:
    """Formats the value of an entry, and the printed one where that is a misprint."""
    if "printed" in entry:
        corrected = {name: value for name, value in entry.items() if name != "printed"}
        return f"{said(corrected)}; misprinted as {entry['printed']:g}"
    value = entry.get("value")
    factor = {"percent": 1, "fraction": 100}.get(entry.get("unit") or "")
    if isinstance(value, int | float):
        if factor is None:
            return paper_number(value, unit=" nats" if entry.get("unit") == "nats" else "")
        sd = entry.get("spread")
        sd = None if sd is None else round(factor * sd, 10)
        return paper_number(round(factor * value, 10), sd, entry.get("n_runs"))
    if "value" in entry:
        return in_words(value) + (" %" if factor == 1 and not isinstance(value, str) else "")
    if "errors_removed" in entry:
        return f"{entry['errors_removed']} errors fewer"
    return "–"
