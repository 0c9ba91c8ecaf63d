"""Autoencoders by their pictures.  [maronas2016, sec. 3.6.3, Fig. 9]

Fig. 9 is a diagram of three steps: layers are trained one by one, unrolled to an autoencoder, and
fine-tuned. Here each step is told by what it makes of digits. The source's layers are restricted
Boltzmann machines; these are denoising autoencoders, which sec. 3.6.3 trains in the same steps.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax.generative.objectives.reconstruction import corrupted
from adv_jax.runner.run import trained
from adv_jax.runner.run.trained import Trained
from adv_jax.style import canvas
from adv_jax.types import Array, UserError
from papers.judging.documents import data_in_words
from papers.judging.words import epochs_in_words
from papers.running.drawing import Drawing, first_layer, mosaic, picture, rounded

FILTERS, DIGITS = 64, 10
NOISES = ("masking", "noise_std")


def filters(run: Trained) -> Drawing:
    """Weights of the first layer of an autoencoder, and its reconstructions of test digits.

    Raises:
      UserError: the run has another model.
    """
    _check(run, "workdir")
    noise = {name: run.about["objective"].get(name) for name in NOISES}
    x = jnp.asarray(run.dataset.test.x)
    noisy = corrupted(x, jax.random.key(run.about["seed"]), **noise)
    rows = {"digits": x, "reconstructions": _reconstructed(run, x)}
    losses = {"digits": _loss(run, x, x)}
    if any(value is not None for value in noise.values()):
        rows |= {"noisy digits": noisy, "their reconstructions": _reconstructed(run, noisy)}
        losses["noisy digits"] = _loss(run, noisy, x)
    shape = run.dataset.test.x.shape[1:3]
    weights = first_layer(run.variables["params"]["encoder"], shape)[:FILTERS]
    figure, [[left, right]] = canvas(1, 2, title=f"An autoencoder on {_trained_on(run)}")
    largest = np.abs(weights).max()
    above = f"weights of {len(weights)} units of the first layer"
    picture(left, mosaic(weights, 8), above=above, low=-largest, high=largest)
    _draw_rows(right, rows)
    values = " and ".join(f"{value:.4g} from {name}" for name, value in losses.items())
    unit = "nats" if run.about["model"]["loss"] == "cross_entropy" else "squared error"
    caption = f"Mean loss of the reconstructed test digits: {values} ({unit}); {_trained_on(run)}."
    settings = {**noise, "chosen": ["net", "noise", "optimizer"]}
    return Drawing(figure, _document(run, caption, settings) | {"loss": _rounded(losses)})


def steps(workdirs: Sequence[str]) -> Drawing:
    """Fig. 9: pre-training, unrolling and fine-tuning by their reconstructions of test digits.

    Args:
      workdirs: a run of stacked autoencoders, and one that started from it.

    Raises:
      UserError: these are not the runs.
    """
    if len(workdirs) != 2:
        found = ", ".join(workdirs)
        raise UserError(f"workdir must be a stack and the run that started from it, got {found}")
    stack, tuned = map(trained.load, workdirs)
    for run, path in zip((stack, tuned), workdirs, strict=True):
        _check(run, f"workdir {path}")
    if stack.about["objective"]["level"] != "stacked":
        raise UserError(f"workdir must begin with a run of level stacked, got {workdirs[0]}")
    if stack.about["model"] != tuned.about["model"]:
        raise UserError(f"workdir must be runs of the same net, got {', '.join(workdirs)}")
    x, depth = jnp.asarray(stack.dataset.test.x), len(stack.about["model"]["features"])
    rows = {"digits": x}
    rows |= {_layers(n): _reconstructed(stack, x, depth=n) for n in range(1, depth)}
    rows |= {
        f"unrolled: {_layers(depth)}": _reconstructed(stack, x),
        "fine-tuned": _reconstructed(tuned, x),
    }
    title = f"Maronas 2016, Fig. 9: a stack of autoencoders on {_trained_on(stack)}"
    figure, [[axes]] = canvas(1, 1, title=title, width=6.5, height=0.6 * len(rows) + 0.6)
    _draw_rows(axes, rows)
    errors = {
        name: float(jnp.sum((images - x) ** 2) / len(x))
        for name, images in rows.items()
        if name != "digits"
    }
    values = ", ".join(f"{name} {value:.3g}" for name, value in errors.items())
    caption = (
        "Test digits as the first layers reconstruct them through their own decoders, after "
        "training layer by layer, and as the whole net does after fine-tuning for "
        f"{epochs_in_words([tuned.about['epochs']])}. Mean squared error of an image: {values}; "
        f"{_trained_on(stack)}."
    )
    document = _document(stack, caption, {"chosen": ["net", "noise", "optimizer"]})
    return Drawing(figure, document | {"squared_error": _rounded(errors)})


def _reconstructed(run: Trained, x: Array, depth: int | None = None) -> Array:
    return run.apply(run.variables, x, depth=depth, method="reconstruct").logits


def _loss(run: Trained, x: Array, clean: Array) -> float:
    return float(run.apply(run.variables, x, clean, method="row_loss").logits.mean())


def _rounded(values: dict[str, float]) -> dict[str, float]:
    """Returns the values, rounded for JSON."""
    return {name: rounded(value) for name, value in values.items()}


def _layers(count: int) -> str:
    return "layer 1" if count == 1 else f"layers 1 to {count}"


def _check(run: Trained, what: str) -> None:
    if run.about["model"]["name"] != "autoencoder":
        name = run.about["model"]["name"]
        raise UserError(f"{what} must be a run of an autoencoder, got {name}")


def _draw_rows(axes, rows: dict[str, Array]) -> None:
    """Draws the first images of each row, in [0, 1], under one another, with the rows' names."""
    images = np.concatenate([np.asarray(row[:DIGITS, ..., 0]) for row in rows.values()])
    picture(axes, mosaic(images, DIGITS))
    height = images.shape[1] + 1
    axes.set_yticks([(row + 0.5) * height for row in range(len(rows))], rows)
    axes.grid(False)
    axes.tick_params(length=0)


def _trained_on(run: Trained) -> str:
    about = run.about
    epochs = epochs_in_words([about["epochs"]])
    return f"{data_in_words(about['data'])}; seed {about['seed']}; {epochs}"


def _document(run: Trained, caption: str, settings: dict) -> dict:
    data = {name: run.about["data"][name] for name in ("name", "source", "sha256")}
    return {"caption": caption, "settings": settings, "seed": run.about["seed"], "data": data}
