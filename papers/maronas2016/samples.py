"""Samples of image data sets.  [maronas2016, sec. 4.1, Figs. 10-13]"""

import math
from collections.abc import Sequence

import numpy as np

from adv_jax import data
from adv_jax.style import figure
from papers.running.drawing import Drawing, picture
from papers.running.images import grid, in_words, of_run, with_source

SCREEN = (2880, 1800, 15.4)  # pixels and inches of the screen in [maronas2016]
_DPI = math.hypot(*SCREEN[:2]) / SCREEN[2]


def digits() -> Drawing:
    """Fig. 10: ten examples of each digit of MNIST."""
    mnist = data.load("mnist", source="embedded")
    title = "Maronas 2016, Fig. 10: samples of MNIST (embedded digits)"
    return with_source(grid(*mnist.test, title=title), mnist)


def digit() -> Drawing:
    """Fig. 11: one digit of MNIST, its pixels and its size on a screen."""
    mnist = data.load("mnist", source="embedded")
    images, labels = mnist.test
    title = f"Maronas 2016, Fig. 11: a {labels[0]} of MNIST (embedded digits)"
    return with_source(close_up(images[0], title=title), mnist)


def color_images(workdirs: Sequence[str]) -> Drawing:
    """Fig. 12: ten examples of each class of CIFAR-10.

    Args:
      workdirs: one run on CIFAR-10, whose images are drawn without its preprocessing.

    Raises:
      UserError: see `images.of_run`.
    """
    cifar10 = of_run(workdirs, name="cifar10")
    title = f"Maronas 2016, Fig. 12: samples of {in_words(cifar10)}"
    return with_source(grid(*cifar10.test, title=title), cifar10)


def color_image(workdirs: Sequence[str]) -> Drawing:
    """Fig. 13: one image of CIFAR-10, its pixels and its size on a screen.

    Args:
      workdirs: one run on CIFAR-10, whose images are drawn without its preprocessing.

    Raises:
      UserError: see `images.of_run`.
    """
    cifar10 = of_run(workdirs, name="cifar10")
    title = f"Maronas 2016, Fig. 13: an image of {in_words(cifar10)}"
    return with_source(close_up(cifar10.test.x[0], title=title), cifar10)


def close_up(image: np.ndarray, *, title: str) -> Drawing:
    """Draws an image enlarged, and in its size on a screen.  [Figs. 11, 13]

    Args:
      image: f32[H, W, C] in [0, 1], with C = 1 (gray) or 3 (RGB).
      title: title above the images.
    """
    # At the screen's resolution the small image has its true size.
    drawn = figure(6, 3.5, title=title, dpi=_DPI, layout="none")
    axes = drawn.add_axes((0.06, 0.12, 0.45, 0.75))
    picture(axes, image)
    height, width, _ = image.shape
    axes.set_xticks(np.arange(width + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(height + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.35", linewidth=0.3)
    axes.tick_params(which="both", length=0)
    left, bottom = (round(inches * _DPI) for inches in (4.44, 1.7))
    drawn.figimage(np.repeat(image, 3 // image.shape[-1], axis=-1), left, bottom)
    size = f"{25.4 * width / _DPI:.1f} mm"
    below = {
        0.285: f"(a) the {height} x {width} pixels",
        0.75: f"(b) {size} wide on {SCREEN[2]} inches of {SCREEN[0]} x {SCREEN[1]}",
    }
    for center, text in below.items():
        drawn.text(center, 0.04, text, ha="center", fontsize="small")
    caption = f"{width} pixels are {size} wide where a screen has {_DPI:.1f} pixels in an inch."
    pixels = np.round(255 * image).astype(int).tolist()
    return Drawing(drawn, {"caption": caption, "bytes": pixels})
