"""Made-up documents to judge."""

from papers.judging.verdicts import judge

FULL, SHORT, QUICK = "paper", "short", "quick"
LOW = [1.0, 2.0, 3.0, 4.0]
# Differences of 1.0, 1.1, 1.0, .9: t = 1 / (.0816 / 2) = 24.5, p = .00015.
HIGH = [2.0, 3.1, 4.0, 4.9]


def seeds(*values):
    return {str(seed): value for seed, value in enumerate(values, 1)}


def row(label, values, paper=None, sd=None, n=None, tolerance=None, metric="error_percent"):
    return {
        "label": label,
        "id": "maronas2016.table5.row1.col1" if paper is not None else None,
        "metric": metric,
        "paper": paper,
        "paper_sd": sd,
        "paper_n": n,
        "tolerance": tolerance,
        "values": values,
        "training": label,
    }


def document(rows, claims=(), budget=FULL):
    training = {"epochs": [5, 7], "paper_epochs": 50}
    return {
        "budget": budget,
        "rows": list(rows),
        "claims": [{"text": "", "id": None, **claim} for claim in claims],
        "trainings": {row["label"]: training for row in rows},
    }


def number(values, *paper, budget=FULL):
    """The judged row of these values beside value, sd, n and tolerance."""
    return judge([document([row("a", seeds(*values), *paper)], budget=budget)])[0]["rows"][0]


def claim(values, budget=FULL, papers=(), **fields):
    """The judged claim on rows of these values, by default a gain from the first to the second."""
    printed = dict(zip(values, papers, strict=False))
    rows = [row(label, seeds(*v), printed.get(label)) for label, v in values.items()]
    fields = {"form": "gain", "rows": list(values), **fields}
    return judge([document(rows, [fields], budget)])[0]["claims"][0]
