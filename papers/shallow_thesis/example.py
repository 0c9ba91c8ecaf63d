"""Recomputes the worked example of the shallow-net thesis, a 3-3-3 net.

Source: secs. 1.5, 2.3 to 2.6, 3.3, Table 2.1. Both layers have sigmoids s. The prediction is
p = s / sum(s), the cost C = -ln p_y. The shallow-net thesis uses dC/dz2 = p - y, which holds for a
softmax of z2, not for its p.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from adv_jax import attacks
from adv_jax.types import Array
from papers.judging.arithmetic import agreement
from papers.running.drawing import Drawing, Table, rounded

Params = dict[str, Array]
Logits = Callable[[Params, Array], Array]  # params, f[B, 3] -> f[B, 3]

X = np.array([[0, 0, 1], [0, 0.1, 0.9], [0, 1, 1], [0.1, 0.9, 0.9], [1, 0, 1], [0.9, 0.1, 0.9]])
Y = np.array([0, 0, 1, 1, 2, 2])
# Table 2.1; rows are inputs, columns are neurons.
PARAMS = {
    "W1": np.array([[-10.0, -10, 10], [-10, 10, -10], [20, 10, 10]]),
    "b1": np.array([-13.0, -13, -13]),
    "W2": np.array([[5.0, -5, -5], [-5, 5, -5], [-5, -5, 5]]),
    "b2": np.zeros(3),
}
LEARNING_RATE, EPS = 0.5, 0.07


class Quantity(NamedTuple):
    """One quantity of the example.

    page: page of the shallow-net thesis.
    what: name of the quantity.
    printed: the printed text, with "/" between rows of a matrix; "" if not printed.
    recomputed: number, row of three or matrix, in float64.
    note: explanation.
    """

    page: int
    what: str
    printed: str
    recomputed: Array | np.ndarray
    note: str = ""

    @property
    def verdict(self) -> str:
        """The output of `agreement`, or "-" if nothing is printed."""
        return agreement(self.printed, self.recomputed) if self.printed else "-"


def walk_through() -> Drawing:
    """The 3-3-3 example of chapters 2 and 3 of the shallow-net thesis, recomputed."""
    found = rows()
    columns = ("p.", "quantity", "printed", "recomputed", "verdict", "note")
    table = Table(
        f"The 3-3-3 example of the shallow-net thesis; sample x1 = (0, 0, 1) of class 1, one step "
        f"of SGD at {LEARNING_RATE}, then FGSM of {EPS} at the first weights",
        columns,
        [
            (str(r.page), r.what, _lines(r.printed), _shown(r.recomputed), r.verdict, r.note)
            for r in found
        ],
    )
    verdicts = [row.verdict for row in found if row.printed]
    counts = {word: verdicts.count(word) for word in ("right", "truncated", "wrong")}
    caption = (
        f"Of {len(verdicts)} printed quantities {counts['right']} are right, "
        f"{counts['truncated']} cut off instead of rounded, {counts['wrong']} wrong. The gradients "
        "are not those of the printed cost: those give another adversarial sample, of a larger "
        "loss."
    )
    settings = {"x": X, "y": Y, **PARAMS, "learning_rate": LEARNING_RATE, "eps": EPS}
    document: dict[str, Any] = {
        "caption": caption,
        "settings": {name: np.asarray(value).tolist() for name, value in settings.items()},
        "verdicts": counts,
        "rows": [
            {**row._asdict(), "recomputed": rounded(row.recomputed), "verdict": row.verdict}
            for row in found
        ],
    }
    return Drawing(None, document, table)


def rows() -> list[Quantity]:
    """Returns every printed number of the example, in order, with its correct value."""
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, PARAMS)
        made = [*_forward_pass(params), *_training_step(params), *_adversarial_sample(params)]
        return [row._replace(recomputed=np.asarray(row.recomputed)) for row in made]


def _forward_pass(params: Params) -> list[Quantity]:
    """Returns the quantities of pages 17 and 18: the activations of x1 and its errors."""
    x1 = jnp.asarray(X[:1])
    z1 = x1 @ params["W1"] + params["b1"][None]
    a1 = jax.nn.sigmoid(z1)
    z2 = _z2(params, x1)
    s = jax.nn.sigmoid(z2)
    p = s / s.sum()
    squared = ((np.array([[1.0, 0, 0]]) - s) ** 2).sum()
    entropy = _cost_at(params, x1)
    return [
        Quantity(17, "z1 = W1' x1 + b1", "7 -3 -3", z1),
        Quantity(17, "a1 = sigmoid(z1)", ".999 .047 .047", a1),
        Quantity(
            17, "z2 = W2' a1 + b2", "9.042 -9.991 -9.991", z2, "printed: twice the right values"
        ),
        Quantity(
            17, "s = sigmoid(z2)", ".989 .007 .007", s, "of the right z2, not of the printed one"
        ),
        Quantity(17, "p = s / sum(s), in percent", "98.6 .7 .7", 100 * p),
        Quantity(
            18,
            "squared error",
            ".021",
            squared,
            "printed: 100 times .011^2 + .007^2 + .007^2, cut off",
        ),
        Quantity(18, "p, in the cross-entropy", ".986 .007 .007", p),
        Quantity(
            18, "cross-entropy -ln p_1", ".011", entropy, "printed: -ln .989, before the division"
        ),
        Quantity(
            18,
            '".011 being lower than .021"',
            ".011 .021",
            jnp.stack([entropy, squared]),
            "it is the other way round",
        ),
    ]


def _training_step(params: Params) -> list[Quantity]:
    """Returns the quantities of page 24: a step of SGD, and the costs before and after it."""
    gradient = _gradient(params)
    after = jax.tree.map(lambda value, slope: value - LEARNING_RATE * slope, params, gradient)
    cost_before, cost_after = (partial(_cost, _thesis_logits, each) for each in (params, after))
    one, all_six = slice(0, 1), slice(6)
    return [
        Quantity(24, "dC/dW1", "-0.0 0.0 0.0 / -0.0 0.0 0.0 / -0.0 0.003 0.003", gradient["W1"]),
        Quantity(
            24, "W1 new", "-10.0 -10.0 10.0 / -10.0 10.0 -10.0 / 20.0 9.998 9.998", after["W1"]
        ),
        Quantity(
            24, "dC/dW2", "-0.013 0.007 0.007 / -0.001 0.0 0.0 / -0.001 0.0 0.0", gradient["W2"]
        ),
        Quantity(24, "W2 new", "5.007 -5.003 -5.003 / -5.0 5.0 -5.0 / -5.0 -5.0 5.0", after["W2"]),
        Quantity(24, "dC/db1 = delta1", "-0.0 0.003 0.003", gradient["b1"]),
        Quantity(24, "b1 new", "-13.0 -13.002 -13.002", after["b1"]),
        Quantity(24, "dC/db2 = delta2 = p - y", "-0.013 0.007 0.007", gradient["b2"]),
        Quantity(24, "b2 new", "0.007 -0.003 -0.003", after["b2"]),
        Quantity(24, "C of x1 before the step", ".0135", cost_before(one)),
        Quantity(24, "C of x1 after it", ".0134", cost_after(one)),
        Quantity(24, "C of all six before", ".014240", cost_before(all_six), "the mean"),
        Quantity(24, "C of all six after", "0.014233", cost_after(all_six), "the mean"),
    ]


def _adversarial_sample(params: Params) -> list[Quantity]:
    """Returns the quantities of page 27, and those of the exact gradient of the printed cost."""
    x1 = jnp.asarray(X[:1])
    printed_sample, true_sample = (_adversarial(f, params) for f in (_thesis_logits, _exact_logits))
    direction = jnp.sign(params["W1"] @ jnp.array([0, 3.0, 3.0]))
    exact = jax.grad(partial(_cost, _exact_logits))(params, slice(0, 1))
    by_x = jax.grad(partial(_cost_at, params))(x1)
    return [
        Quantity(27, "delta1 in eq. 3.3", "0 0.003 0.003", _gradient(params)["b1"]),
        Quantity(
            27, "sign(W1 (0, .003, .003))", "", direction, "eq. 3.3 needs the first entry, -.000122"
        ),
        Quantity(27, "x1 adversarial", "0.07 0.07 1.07", printed_sample, "with delta2 = p - y"),
        Quantity(27, "C of x1", ".013501", _cost_at(params, x1)),
        Quantity(27, "C of x1 adversarial", ".013580", _cost_at(params, printed_sample)),
        Quantity(27, "dC/db2, exact", "", exact["b2"], "of the printed cost"),
        Quantity(27, "dC/dx, exact", "", by_x, "of the printed cost"),
        Quantity(
            27, "x1 adversarial, exact", "", true_sample, "by the gradient of the printed cost"
        ),
        Quantity(27, "C of it", "", _cost_at(params, true_sample), "more than the printed .013580"),
    ]


def _gradient(params: Params) -> Params:
    """Returns the gradient that the thesis takes, of the cost of x1."""
    return jax.grad(partial(_cost, _thesis_logits))(params, slice(0, 1))


def _z2(params: Params, x: Array) -> Array:
    return jax.nn.sigmoid(x @ params["W1"] + params["b1"][None]) @ params["W2"] + params["b2"][None]


def _exact_logits(params: Params, x: Array) -> Array:
    """Returns logits of the printed cost: softmax(ln s) = s / sum(s)."""
    return jax.nn.log_sigmoid(_z2(params, x))


def _thesis_logits(params: Params, x: Array) -> Array:
    """Returns the same values, differentiated as if they were z2 (eq. 2.13)."""
    z2 = _z2(params, x)
    return z2 + jax.lax.stop_gradient(jax.nn.log_sigmoid(z2) - z2)


def _cost(logits: Logits, params: Params, samples: slice) -> Array:
    """Returns the mean of -ln p_y over the samples: f[]."""
    log_p = jax.nn.log_softmax(logits(params, jnp.asarray(X[samples])))
    return -jnp.take_along_axis(log_p, jnp.asarray(Y[samples])[:, None], axis=1).mean()


def _cost_at(params: Params, x: Array) -> Array:
    """Returns -ln p of class 1 at x f[1, 3]: f[]."""
    return -jax.nn.log_softmax(_exact_logits(params, x))[0, 0]


def _adversarial(logits: Logits, params: Params) -> Array:
    """Returns x1 + eps sign(gradient), without clipping: f[1, 3]."""
    return attacks.fgsm(partial(logits, params), jnp.asarray(X[:1]), jnp.asarray(Y[:1]), eps=EPS)


def _shown(values: ArrayLike) -> str:
    """Formats to six digits, with a line per row of a matrix."""
    return "\n".join(" ".join(f"{value:.6g}" for value in line) for line in np.atleast_2d(values))


def _lines(printed: str) -> str:
    return printed.replace(" / ", "\n")
