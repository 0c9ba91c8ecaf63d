"""Confidence of nets on Gaussian noise.  [wardefarley2016, sec. 1.2.6]

The source prints no numbers. The threshold .5 and the standard deviation 1 are those of
[goodfellow2015], which it cites.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax import attacks
from adv_jax.evaluate.batching import over_rows
from adv_jax.runner.run.trained import Trained
from adv_jax.style import canvas
from papers.judging.documents import data_in_words
from papers.running.drawing import SEED, Drawing, rounded
from papers.wardefarley2016.defenses import method_of, net_of

STD, SURE, COUNT = 1.0, 0.5, 10_000


def sureness(run: Trained) -> np.ndarray:
    """Returns the largest probability for each of COUNT noise inputs: f32[COUNT]."""
    like = jnp.zeros((COUNT, *run.dataset.test.x.shape[1:]))
    noise = attacks.rubbish(None, like, None, std=STD, key=jax.random.key(SEED))
    largest = lambda x: jax.nn.softmax(run.logits_fn(x)).max(axis=1)
    return np.asarray(over_rows(largest, (noise,), batch_size=500))


def confidences(runs: Sequence[Trained]) -> Drawing:
    """Sec. 1.2.6: how often Gaussian noise is classified with confidence above .5.

    Args:
      runs: trained nets, such as one plain and one adversarially trained.
    """
    title = f"Gaussian noise of standard deviation {STD:g} in place of images: how sure nets are"
    figure, ((axes,),) = canvas(1, 1, title=title, width=7)
    rows: list[dict[str, Any]] = []
    for run in runs:
        values = sureness(run)
        method = method_of(run.about["objective"])
        share, mean = rounded((values > SURE).mean()), rounded(values.mean())
        label = f"{net_of(run)}: {100 * share:.1f} % above {SURE}"
        axes.hist(values, bins=np.linspace(0, 1, 51), histtype="step", label=label)
        rows.append({"method": method, "run": run.about, "above": share, "mean": mean})
    axes.axvline(SURE, color="black", linestyle=":")
    axes.set(xlabel="largest probability", ylabel=f"inputs of {COUNT}")
    figure.legend(loc="outside lower center")
    settings = {"std": STD, "above": SURE, "inputs": COUNT, "chosen": ["std"]}
    caption = _caption(rows, data_in_words(runs[0].about["data"]))
    document = {"caption": caption, "settings": settings, "seed": SEED, "rows": rows}
    return Drawing(figure, document)


def _caption(rows: Sequence[Mapping[str, Any]], data: str) -> str:
    shares = "; ".join(
        f"{row['method']} (seed {row['run']['seed']}, {row['run']['epochs']} epochs): "
        f"{100 * row['above']:.1f} %"
        for row in rows
    )
    return (
        f"Share of {COUNT} inputs of noise that are classified with confidence above {SURE}, by "
        f"nets of {data}: {shares}."
    )
