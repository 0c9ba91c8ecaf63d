"""A trained net under FGSM and under random signs.  [maronas2016, sec. 5.4, Figs. 23, 24]

[maronas2016] measures a ladder network with all labels. It does not mention clipping; following
eq. 42, this does not clip. It does not say which batch normalization the gradient goes through, so
both are measured: batch statistics, as in training, give its number. The audit of adv_jax.evaluate
warns of them, as the attack is then on another net.
"""

import textwrap
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax import attacks, evaluate
from adv_jax.runner.run.trained import Trained
from adv_jax.style import canvas
from adv_jax.types import Array
from papers.judging import numbers
from papers.judging.documents import data_in_words
from papers.running.drawing import SEED, Drawing, picture, rounded

TAU = 0.25
BATCH_SIZE = 100  # the training batch size of [maronas2016]
PRINTED = {"fgsm": "fgsm_tau025", "sign_noise": "gauss_sign_tau025", "clean": "clean_reference"}
_NOISES = {"fgsm": attacks.fgsm, "sign_noise": attacks.sign_noise}
_TITLES = {
    "fgsm": ("Fig. 23: FGSM", "τ sign(gradient)"),
    "sign_noise": ("Fig. 24: random signs", "τ times random signs"),
}


def error_rates(run: Trained) -> tuple[dict[str, float], list[str]]:
    """Returns test errors {"fgsm", "sign_noise", "clean"}, fractions, and the audit's warnings.

    For a model with batch statistics there is also "fgsm_of_batches", with a gradient through the
    statistics of the batch. Its examples are tested like the others.

    Args:
      run: a trained model and its data.
    """
    x, y = run.dataset.test
    with warnings.catch_warnings(action="ignore", category=evaluate.AuditWarning):
        found = evaluate.evaluate(run.logits_fn, x, y, _NOISES, eps=[TAU], key=jax.random.key(SEED))
    accuracy = {name: float(curve.accuracy[0]) for name, curve in found.attacks.items()}
    accuracy["clean"] = float(found.clean.accuracy)
    if "batch_stats" in run.variables:
        accuracy["fgsm_of_batches"] = _accuracy_of_batches(run)
    return {name: rounded(1 - a) for name, a in accuracy.items()}, list(found.audit.warnings)


def _accuracy_of_batches(run: Trained) -> float:
    """Returns the accuracy under FGSM through the statistics of batches of about BATCH_SIZE."""

    @jax.jit
    def correct(x: Array, y: Array) -> Array:
        in_training = lambda x: run.apply(run.variables, x, train=True).logits
        x_adv = attacks.fgsm(in_training, x, y, eps=TAU)
        return (run.logits_fn(x_adv).argmax(-1).astype(y.dtype) == y).sum()

    x, y = run.dataset.test
    batches = max(1, len(y) // BATCH_SIZE)
    parts = zip(np.array_split(x, batches), np.array_split(y, batches), strict=True)
    return sum(int(correct(*part)) for part in parts) / len(y)


def noisy_digit(run: Trained) -> Drawing:
    """Figs. 23, 24: a digit, its noise and their sum, with the test errors of sec. 5.4.

    Args:
      run: a model of images and its data.
    """
    errors, audit_warnings = error_rates(run)
    x, y = (jnp.asarray(rows[:1]) for rows in run.dataset.test)
    figure, rows = canvas(2, 3, title=_title(run, errors), width=2.9, height=3.1)
    read = {"clean": _read(run, x)}
    for panels, (name, noise) in zip(rows, _NOISES.items(), strict=True):
        x_adv = noise(run.logits_fn, x, y, eps=TAU, key=jax.random.key(SEED))
        read[name] = _read(run, x_adv)
        figure_title, noise_title = _TITLES[name]
        shown = {
            f"x, read as {read['clean']}": x,
            noise_title: x_adv - x,
            f"the sum, read as {read[name]}": x_adv,
        }
        for axes, (above, image) in zip(panels, shown.items(), strict=True):
            beside = figure_title if axes is panels[0] else ""
            scale = {"low": -TAU, "high": 1 + TAU}  # one for all images
            picture(axes, np.asarray(image[0]), above=above, beside=beside, **scale)
    document = {
        "caption": caption(run.about, errors),
        "settings": {"tau": TAU, "bounds": None, "examples": len(run.dataset.test.y)},
        "seed": SEED,
        "run": run.about,
        "test_error": errors,
        "thesis": printed_errors(),
        "warnings": audit_warnings,
        "digit": {"index": 0, "label": int(y[0]), "read_as": read},
    }
    return Drawing(figure, document)


def caption(about: Mapping[str, Any], errors: Mapping[str, float]) -> str:
    """Returns the caption of a net, by what it is trained on, and its test errors."""
    return (
        f"Test error of {about['experiment']}, seed {about['seed']}, {noise_of(about)}: "
        f"{_percent(errors)}; Maronas 2016 has {_percent(printed_errors())}. Gray levels run "
        f"from -tau (black) to 1 + tau (white)."
    )


def printed_errors() -> dict[str, float]:
    """Returns the printed test errors."""
    return {name: numbers.fraction(f"maronas2016.claim.{of}") for name, of in PRINTED.items()}


def noise_of(about: Mapping[str, Any]) -> str:
    """Returns "trained with fgsm of linf .00045", or that a net is trained without such noise."""
    attacks = [
        f"{attack['name']} of {attack['norm']} {attack['eps']:g}{on}"
        for name, on in (("attack", ""), ("unlabeled_attack", " on unlabeled images"))
        if (attack := about["objective"].get(name))
    ]
    return (
        f"trained with {' and '.join(attacks)}" if attacks else "trained without adversarial noise"
    )


def _read(run: Trained, x: Array) -> int:
    return int(run.logits_fn(x)[0].argmax())


def _title(run: Trained, errors: dict[str, float]) -> str:
    about = run.about
    what = f"{about['experiment']}, seed {about['seed']}, {about['epochs']} epochs"
    return (
        f"Maronas 2016, Figs. 23, 24: τ = {TAU}; {what}, {data_in_words(about['data'])}\n"
        + textwrap.fill(f"test error: {_percent(errors)}", 80)
    )


def _percent(errors: Mapping[str, float]) -> str:
    names = {
        "fgsm": "under FGSM",
        "fgsm_of_batches": "if its gradient goes through batch statistics",
        "sign_noise": "under random signs",
        "clean": "clean",
    }
    return ", ".join(
        f"{100 * errors[name]:.2f} % {text}" for name, text in names.items() if name in errors
    )
