"""Measures of a generator's samples, and whether it has collapsed.

The Frechet distance and the score are those of the last hidden layer and the probabilities of a
LeNet of ours, not of an Inception net: they compare with the rows of the same figure only.
[wardefarley2016, sec. 1.4.2] tells how generators collapse; `measures.collapse` has the rule.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from adv_jax import generative
from papers.goodfellow2014.classifier import Judged, given, judge
from papers.goodfellow2014.samples import closeness, collapsed, looked_at, samples_of
from papers.running.drawing import Drawing, Table, rounded
from papers.running.runs import trained_on

REAL = "training images"
COLUMNS = {
    "frechet": "Frechet distance",
    "score": "score",
    "class_entropy": "class entropy",
    "doubt": "entropy of an image",
    "modes": "classes",
    "diversity": "diversity",
    "fooled": "D(G(z))",
}


def beside_real(workdirs: Sequence[str]) -> Drawing:
    """Samples of generators beside training images, in the eyes of a LeNet; and their collapse.

    Args:
      workdirs: runs of generators, and one of huang_lenet_mnist on the same data.

    Raises:
      UserError: see `classifier.given`.
    """
    runs, models, classifier = given(workdirs)
    dataset = models[0].dataset
    judged, count = judge(classifier, dataset.train.x), len(dataset.test.x)
    test = judged(dataset.test.x)
    rows = [{"of": REAL, **_measured(judged(dataset.train.x[:count]), test)}]
    for model in models:
        name = f"{model.about['experiment']}, seed {model.about['seed']}"
        images = samples_of(model, count)
        seen = judged(np.asarray(images))
        found = closeness(images, model)
        signs = generative.measures.collapse(
            diversity=found.diversity,
            fooled=found.fooled,
            coverage=generative.measures.coverage(seen.logits),
        )
        measured = _measured(seen, test)
        rows.append({"of": name, **measured, **found._asdict(), "collapse": signs})
    title = f"Samples of generators beside training images; {trained_on(runs)}"
    caption = (
        f"{count} samples of each generator ({'; '.join(row['of'] for row in rows[1:])}) and as "
        "many training images, beside the test set, in the features and classes of "
        f"{_in_words(classifier.about)}; {trained_on(runs)}. "
        + collapsed(
            ((row["of"], row["collapse"]) for row in rows[1:]),
            looked_at("the variety and the classes of the samples", models),
        )
    )
    document = {
        "caption": caption,
        "settings": {"samples": count, "chosen": ["classifier", "samples"]},
        "classifier": classifier.about,
        "rows": rows,
        "data": runs[0].result["data"],
    }
    cells = [[row["of"], *(_cell(row.get(key)) for key in COLUMNS)] for row in rows]
    return Drawing(None, document, Table(title, ["images", *COLUMNS.values()], cells))


def _measured(seen: Judged, test: Judged) -> dict[str, Any]:
    found = generative.measures.coverage(seen.logits)
    return {
        "frechet": rounded(generative.measures.frechet(seen.features, test.features)),
        "score": rounded(found.score),
        "class_entropy": rounded(found.class_entropy),
        "doubt": rounded(found.doubt),
        "modes": found.modes,
        "shares": rounded(found.shares),
    }


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3g}"


def _in_words(about: dict[str, Any]) -> str:
    return f"a {about['model']['name']} of ours ({about['epochs']} epochs)"
