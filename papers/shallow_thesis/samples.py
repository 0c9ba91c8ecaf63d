"""Images of data sets, clean and with noise.  [shallow-net thesis, Figs. 3.5, 3.9]"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax import attacks, evaluate
from adv_jax.runner.run.trained import Trained
from adv_jax.style import canvas
from adv_jax.types import Attack, UserError
from papers.judging.documents import data_in_words
from papers.running.drawing import SEED, Drawing, picture
from papers.running.images import grid, in_words, of_run, with_source

SIZES = (0.0, 0.1, 0.2, 0.3)
_NOISES: dict[str, Attack] = {
    "FGSM, eps": attacks.fgsm,
    "Gaussian noise, std": attacks.gaussian_noise,
}


def strip(run: Trained) -> Drawing:
    """Fig. 3.5: a test image under FGSM and, below, under noise.

    Args:
      run: a model of gray images and its data.

    Raises:
      UserError: the inputs are not gray images.
    """
    x, y = (jnp.asarray(rows[:1]) for rows in run.dataset.test)
    if x.ndim != 4 or x.shape[-1] != 1:
        raise UserError(f"workdir must be a run on gray images, got inputs {x.shape[1:]}")
    objective = run.about["objective"]["name"]
    net = "net A" if objective == "cross_entropy" else f"a net trained by {objective}"
    what = f"{net}, {data_in_words(run.about['data'])}"
    title = f"Shallow-net thesis, Fig. 3.5: {what}; digit {int(y[0])}"
    figure, rows = canvas(2, len(SIZES), title=title, width=2, height=2.3)
    read: dict[str, list[int]] = {}
    for panels, (words, noise) in zip(rows, _NOISES.items(), strict=True):
        read[words] = []
        for axes, size in zip(panels, SIZES, strict=True):
            scaled = {evaluate.scale_of(noise): size}
            x_adv = noise(run.logits_fn, x, y, **scaled, key=jax.random.key(SEED))
            read[words].append(int(run.logits_fn(x_adv)[0].argmax()))
            above = f"{size:g}: read as {read[words][-1]}"
            beside = words if axes is panels[0] else ""
            picture(axes, np.asarray(x_adv[0]), above=above, beside=beside)
    caption = (
        f"A test image with noise of the sizes 0, .1, .2 and .3, read by {net}; above along the "
        "sign of the net's own gradient, below at random. The net gets the values as they are; the "
        "picture shows those below 0 as black and those above 1 as white."
    )
    document = {
        "caption": caption,
        "settings": {"sizes": SIZES, "bounds": None, "chosen": ["image", "net", "bounds"]},
        "seed": SEED,
        "run": run.about,
        "image": {"index": 0, "label": int(y[0]), "read_as": read},
    }
    return Drawing(figure, document)


def extract(workdirs: Sequence[str]) -> Drawing:
    """Fig. 3.9: ten examples of each class of CIFAR-10, in color.

    Args:
      workdirs: one run on CIFAR-10, whose images are drawn without its preprocessing.

    Raises:
      UserError: see `images.of_run`.
    """
    cifar10 = of_run(workdirs, name="cifar10")
    title = f"Shallow-net thesis, Fig. 3.9: extract of {in_words(cifar10)}"
    return with_source(grid(*cifar10.test, title=title), cifar10)
