"""Tables of methods side by side for the generated pages: few labels, and generators.

Each row of a table is a row of the results, found by its label. The column "cited" has the number
that the work or the source of the method prints; no numbers.json has these.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from papers.pages import chapters
from papers.pages.chapters import Chapter, Line

# Rows of nets that saw 100 or 1,000 labels of MNIST, in any result -> words with the {target}
WITH_100_LABELS = {
    "Table 20: 100 labels, no adversarial noise": "ladder network",
    "Table 22: 100 labels, SGN .045 and norm .00045": "ladder network, adversarial noise",
    "Table 25: Conv-Small, 100 labels, no adversarial noise": "convolutional ladder network",
    "Table 26: Conv-Small, 100 labels, SGN .00045 and norm 4.5e-7 (caption: both 4.5e-5)": (
        "convolutional ladder network, adversarial noise"
    ),
    "adversarial autoencoder, 100 labels": "adversarial autoencoder",
    "categorical adversarial net, 100 labels": "categorical adversarial net",
    "output matching, 100 labels, weight 1": "output distribution matching",
    "output matching, 100 labels, weight 0": "the net of `{target}`, labels alone",
    "from a stack, 100 labels": "pre-trained stack of autoencoders",
    "from a belief network, 100 labels": "pre-trained belief network",
    "from a deep machine, 100 labels": "pre-trained deep Boltzmann machine",
    "random start, 100 labels": "the net of `{target}` from a random start",
    "VAT, clean": "virtual adversarial training",
    "labels alone, clean": "the net of `{target}`, labels alone",
}
WITH_1000_LABELS = {
    "Table 23: 1,000 labels, no adversarial noise": "ladder network",
    "Table 24: 1,000 labels, SGN and norm 4.5e-5": "ladder network, adversarial noise",
    "adversarial autoencoder, 1000 labels": "adversarial autoencoder",
}
# Generators whose samples carry Parzen windows.
GENERATORS = {
    "adversarial nets": "adversarial nets, `gan_mnist`",
    "conditional": "a generator of given digits, `cgan_mnist`",
    "convolutional": "a convolutional generator, `dcgan_mnist`",
    "pyramid": "a pyramid of generators, `lapgan_mnist`",
    "variational": "a variational autoencoder, `vae_mnist`",
    "vae gan": "a VAE with a discriminator, `vae_gan_mnist`",
    "adversarial code": "an adversarial autoencoder, `aae_mnist`",
}
ELSEWHERE = {
    "adversarial autoencoder, 100 labels": "1.90 % (Makhzani 2015)",
    "adversarial autoencoder, 1000 labels": "1.60 % (Makhzani 2015)",
    "categorical adversarial net, 100 labels": "1.91 % (Springenberg 2016, as Dai 2017 quotes it)",
    "conditional": "132 nats (Mirza & Osindero 2014, as a page of another program quotes it)",
}

Cells = Sequence[str]
Table = tuple[Cells, list[Cells]]  # headers and rows


class Found(NamedTuple):
    """A measured row: its work, its result and its line."""

    one: Chapter
    document: Mapping[str, Any]
    row: Mapping[str, Any]
    line: Line

    @property
    def cited(self) -> str:
        return ELSEWHERE.get(self.line.label, self.line.paper)


def with_labels(works: Sequence[Chapter], names: Mapping[str, str]) -> Table:
    """Returns the table of the rows `names`, those with the lowest mean error first."""
    rows = {
        (
            found.row["mean"],
            names[found.line.label].format(target=found.document["target"]),
            found.one.paper.short,
            found.cited,
            found.line.ours,
            found.line.runs,
        )
        for found in _found(works, names)
    }
    headers = ("method", "work", "cited", "test error", "seeds, epochs, data")
    return headers, [cells for _, *cells in sorted(rows)]


def likelihoods(one: Chapter) -> Table:
    """Returns the table of a work's GENERATORS, the best first, then of those that it cites.

    It has no rows if nothing was measured.
    """
    measured = sorted(_found([one], GENERATORS), key=lambda found: -found.row["mean"])
    rows: list[Cells] = [
        (GENERATORS[found.line.label], found.cited, found.line.ours, found.line.runs)
        for found in measured
    ]
    entries = [
        entry
        for entry in one.paper.entries.values()
        if entry["kind"] == "cited" and entry["metric"] == "log_likelihood_nats"
    ]
    entries.sort(key=lambda entry: -entry["value"])
    cited = [(entry["model"], f"{entry['value']} nats", "–", "–") for entry in entries]
    headers = ("generator", "cited", "ours", "seeds, epochs, data")
    return headers, [*rows, *cited] if rows else []


def _found(works: Iterable[Chapter], names: Mapping[str, str]) -> Iterator[Found]:
    """Yields the measured rows with one of these labels."""
    for one in works:
        for document in (*one.of_runs, *one.targets):
            for row in document["rows"]:
                if row["label"] in names and row["values"]:
                    yield Found(one, document, row, chapters.line_of(document, row))
