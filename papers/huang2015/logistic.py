"""Logistic regression under an adversary, in closed form.  [huang2015, appendix A]

For l(z) = log(1 + exp(-z)), which the paper prints with the opposite sign, the worst case over
||r|| <= c is

    max_r l(y w.(x + r)) = l(y w.x - c ||w||_*),

which is convex in w (Proposition B). The difference from l(y w.x) is not convex (C). If the
perturbed data are not separable, the minimum is bounded and unique (D).
"""

import numpy as np
import scipy.optimize
from numpy.typing import ArrayLike

from adv_jax.style import canvas
from papers.running.drawing import Drawing, rounded

C, Z = 0.5, (1.0, 1.0)  # the printed counterexample: c, (x, y)
# Six points, separated by w = (1, 1); the classes are 2 sqrt(2) apart.
POINTS = np.array([[1, 1], [2, 1], [1, 3], [-1, -1], [-2, -1], [-1, -2]], float)
CLASSES = np.array([1, 1, 1, -1, -1, -1])


def loss(w: np.ndarray, x: np.ndarray, y: np.ndarray, c: float) -> float:
    """Returns the adversarial loss under l2, summed over the rows.

    Args:
      w: weights f[D].
      x, y: inputs f[N, D] and classes f[N], -1 or 1.
      c: largest l2 norm of a perturbation.
    """
    return float(np.logaddexp(0, -(y * (x @ w) - c * np.linalg.norm(w))).sum())


def regularizer(w: ArrayLike) -> np.ndarray:
    """Returns R_z(w) for x = y = 1 in one dimension; Prop. C's formula holds only for w >= 0."""
    w = np.asarray(w, np.float64)
    return np.logaddexp(0, -(w - C * np.abs(w))) - np.logaddexp(0, -w)


def printed_regularizer(w: np.ndarray) -> np.ndarray:
    """Returns R_z(w) as printed in Prop. C, which is wrongly negative for w < 0."""
    return np.logaddexp(0, -(1 - C) * w) - np.logaddexp(0, -w)


def regularization() -> Drawing:
    """Appendix A: R_z(w) is not convex; minima of the adversarial loss on separable points."""
    figure, ((left, right),) = canvas(1, 2, title="Huang 2015, appendix A")
    w = np.linspace(-4, 12, 801)
    left.plot(w, regularizer(w), label="corrected")
    left.plot(w, printed_regularizer(w), "--", label="as printed")
    top = scipy.optimize.minimize_scalar(lambda w: -float(regularizer(w)), bounds=(0, 5))
    left.plot(top.x, -top.fun, "o", color="black", label=f"largest for w > 0: {-top.fun:.4f}")
    left.set(xlabel="w", ylabel="R_z(w), c = .5, z = (1, 1)", title="Proposition C")

    half = np.sqrt(2)  # half the distance of the classes
    sizes = half * np.array([0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5])
    minima = [_minimum(c, start) for c in sizes for start in (np.ones(2), np.array([3.0, -2.0]))]
    lengths = np.linalg.norm(np.array(minima).reshape(len(sizes), 2, 2), axis=2)
    right.semilogy(sizes / half, lengths[:, 0] + 1e-6, "o-", label="from one start")
    right.semilogy(sizes / half, lengths[:, 1] + 1e-6, "x--", label="from another")
    right.set(
        xlabel="2 c / margin", ylabel="length of the minimizer w (log)", title="Proposition D"
    )
    for axes in (left, right):
        axes.legend()
    document = {
        "caption": (
            f"R_z has its largest value for w > 0, {-top.fun:.4f}, at w = {top.x:.3f}, and falls "
            "to 0 beyond: it is not convex. On separable points the minimizer of the adversarial "
            "loss is bounded, and one, where 2 c exceeds the margin; below that it runs off."
        ),
        "settings": {"points": POINTS.tolist(), "chosen": ["points", "sizes", "starts"]},
        "largest": {"w": rounded(top.x), "R_z": rounded(-top.fun)},
        "sizes": rounded(sizes / half),
        "lengths": rounded(lengths),
    }
    return Drawing(figure, document)


def _minimum(c: float, start: np.ndarray) -> np.ndarray:
    """Minimizes the loss from `start`; stops after 2000 iterations if there is no minimum."""
    found = scipy.optimize.minimize(
        loss, start, args=(POINTS, CLASSES, c), method="Nelder-Mead", options={"maxiter": 2000}
    )
    return found.x
