"""Draws docs/picture.png, the picture of the README: `python docs/picture.py`, a minute on a CPU.

Accuracy is the worst case over FGSM, PGD and APGD, of the two perceptrons of
`benchmarks.robustness`, on 1,000 digits that they have not seen.
"""

from functools import partial
from pathlib import Path

import jax
import numpy as np

from adv_jax import attacks, data, evaluate, style
from benchmarks.robustness import BOUNDS, nets
from papers.running.drawing import picture

EPS = np.linspace(0, 0.3, 13)
COLORS = {"plain": style.COLORS[0], "defended": style.COLORS[1]}
SHOWN = 0.15  # eps of the digits


@style.styled()
def draw(accuracy, digits, read_as):
    """Returns the figure: accuracies over eps, and digits that PGD crafted on each net."""
    figure = style.figure(10, 2.7)
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.1))
    axes = left.subplots()
    at = int(np.argmin(np.abs(EPS - SHOWN)))
    for name, values in accuracy.items():
        axes.plot(EPS, values, color=COLORS[name], marker="o", markersize=3, label=f"{name} net")
        words = {"color": COLORS[name], "xytext": (6, 6), "textcoords": "offset points"}
        axes.annotate(f"{values[at]:.0%}", (EPS[at], values[at]), **words)
    axes.axvline(SHOWN, color=style.GRAY, linewidth=0.8, linestyle=":")
    axes.set(xlabel=f"{style.size_label(['linf'])}, pixels in [0, 1]", xlim=(0, EPS[-1]))
    style.shares(axes, "accuracy, worst of 3 attacks")
    style.name_lines(axes)
    right.suptitle(f"five digits, crafted on each net by PGD with eps {SHOWN:g}")
    panels = right.subplots(len(digits), 5)
    for row, (name, images) in zip(panels, digits.items(), strict=True):
        for panel, image, label in zip(row, images, read_as[name], strict=True):
            beside = f"{name} net\nreads" if panel is row[0] else ""
            picture(panel, image.reshape(28, 28), above=f"{label}", beside=beside)
            for text in (panel.title, panel.yaxis.label):
                text.set(color=COLORS[name], fontsize="medium")
    return figure


def main():
    """Trains, attacks and draws."""
    dataset = data.load("mnist", source="embedded")
    x, y = dataset.test
    suite = {
        "fgsm": partial(attacks.fgsm, bounds=BOUNDS),
        "pgd": partial(attacks.pgd, bounds=BOUNDS, num_steps=40),
        "apgd": partial(attacks.apgd, bounds=BOUNDS, num_steps=40, loss="dlr"),
    }
    key = jax.random.key(0)
    accuracy, digits, read_as = {}, {}, {}
    shown = [int(np.flatnonzero(y == label)[0]) for label in range(5)]
    for name, net in nets(dataset).items():
        found = evaluate.evaluate(net, x, y, suite, eps=EPS, bounds=BOUNDS, key=key)
        accuracy[name] = found.worst_case
        digits[name] = np.asarray(suite["pgd"](net, x[shown], y[shown], eps=SHOWN, key=key))
        read_as[name] = net(digits[name]).argmax(-1)
        print(name, [round(float(value), 3) for value in accuracy[name]], found.audit.warnings)
    style.save(draw(accuracy, digits, read_as), Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
