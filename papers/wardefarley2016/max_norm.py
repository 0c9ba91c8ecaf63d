"""Perturbations of one l2 norm with and without a max-norm bound.  [wardefarley2016, sec. 1.2.5,
Fig. 1.5]

The source does not name the digits, nor two of the perturbations. Here the 3 and the 7 are the
nearest pair of the embedded digits. "No change" is Gaussian noise. "To rubbish" erases the 3 row by
row from below. All have the l2 norm of the first.
"""

import numpy as np

from adv_jax import data
from adv_jax.style import canvas
from papers.running.drawing import SEED, Drawing, picture, rounded


def perturbations() -> Drawing:
    """Fig. 1.5: l2 perturbations that change a digit's class, and their signs that do not."""
    mnist = data.load("mnist", source="embedded")
    three, seven = nearest_pair(*mnist.train, 3, 7)
    rng = np.random.default_rng(SEED)
    change = seven - three
    length = float(np.linalg.norm(change))
    noise = rng.normal(size=three.shape)
    left = {
        "to a 7": change,
        "no change": noise * length / np.linalg.norm(noise),
        "to rubbish": erased(three, length),
    }
    names = list(left)
    right = [signed(r, rng) for r in left.values()]
    title = "Warde-Farley & Goodfellow 2016, Fig. 1.5: six perturbations of one l2 norm"
    figure, panels = canvas(3, 6, title=title, width=1.5, height=1.65)
    norms = {"left": [], "right": []}
    for row, (name, r, sign) in enumerate(zip(names, left.values(), right, strict=True)):
        for first, side, eta in ((0, "left", r), (3, "right", sign)):
            l2, largest = float(np.linalg.norm(eta)), float(np.abs(eta).max())
            norms[side].append({"name": name, "l2": rounded(l2), "max_norm": rounded(largest)})
            for axes, image in zip(panels[row, first:], (three, eta, three + eta), strict=False):
                # One scale from -1 (black) to 1 (white), so that 0 is gray as in the source.
                picture(axes, image, low=-1, beside=name if axes is panels[row, 0] else "")
            panels[row, first + 1].set_title(f"l2 {l2:.2f}, max {largest:.2f}", fontsize="small")
    largest = norms["right"][0]["max_norm"]
    caption = (
        f"Left x, a perturbation and their sum; right the same with the perturbation's signs. All "
        f"six have the l2 norm {length:.2f} (printed: roughly 4), those on the right the max norm "
        f"{largest:.2f} (roughly .14)."
    )
    source = {"name": mnist.name, "source": mnist.source, "sha256": mnist.sha256}
    settings = {"chosen": ["the digits", "no change: noise", "to rubbish: erased from below"]}
    document = {"caption": caption, "settings": settings, "seed": SEED, "data": source, **norms}
    return Drawing(figure, document)


def nearest_pair(
    x: np.ndarray, y: np.ndarray, first: int, second: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the nearest images of two classes: f32[N, *D], i32[N] -> f32[*D] each."""
    a, b = x[y == first], x[y == second]
    distances = [np.square(b - image).sum(axis=(1, 2, 3)) for image in a]
    i, j = np.unravel_index(np.argmin(distances), (len(a), len(b)))
    return a[i], b[j]


def erased(image: np.ndarray, length: float) -> np.ndarray:
    """Returns the perturbation of l2 norm `length` that erases rows from the last one up.

    The last erased row is scaled to reach the norm.
    """
    rest, r = length**2, np.zeros_like(image)
    for row in range(len(image) - 1, -1, -1):
        energy = float(np.square(image[row]).sum())
        share = min(1.0, np.sqrt(rest / energy)) if energy else 0.0
        r[row] = -share * image[row]
        rest -= share**2 * energy
    return r


def signed(r: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns sign(r), with random signs where r is 0, scaled to the l2 norm of r."""
    signs = np.where(r == 0, rng.choice([-1.0, 1.0], size=r.shape), np.sign(r))
    return signs * np.linalg.norm(r) / np.sqrt(r.size)
