"""Draws docs/picture.png, the picture of the README: `python docs/picture.py`, a minute on a CPU.

Accuracy is the worst case over FGSM, PGD and APGD, of the two perceptrons of
`benchmarks.robustness`, on 1,000 digits that they have not seen.
"""

from functools import partial
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

from adv_jax import attacks, data, evaluate
from benchmarks.robustness import BOUNDS, nets

EPS = np.linspace(0, 0.3, 13)
COLORS = {"plain": "#2a86d1", "defended": "#d9700a"}
SHOWN = 0.15  # eps of the digits


def draw(accuracy, digits, read_as):
    """Returns the figure: accuracies over eps, and digits that PGD crafted on each net."""
    figure = Figure(figsize=(9, 3.3), layout="constrained", dpi=120)
    left, right = figure.subfigures(1, 2, width_ratios=(1.1, 1))
    axes = left.subplots()
    for name, values in accuracy.items():
        axes.plot(EPS, values, color=COLORS[name], marker=".", label=f"{name} net")
    axes.axvline(SHOWN, color="#7d8590", linewidth=0.8, linestyle=":")
    axes.set(xlabel="eps (linf, pixels in [0, 1])", ylabel="accuracy, worst of 3 attacks")
    axes.set(ylim=(0, 1), xlim=(0, EPS[-1]))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    right.suptitle(f"crafted at eps {SHOWN:g}, and what the net reads", fontsize="medium")
    panels = right.subplots(len(digits), 5)
    for row, (name, images) in zip(panels, digits.items(), strict=True):
        for panel, image, label in zip(row, images, read_as[name], strict=True):
            panel.imshow(image.reshape(28, 28), cmap="gray", vmin=0, vmax=1)
            panel.set_title(str(label), color=COLORS[name], fontsize="medium")
            panel.axis("off")
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
    draw(accuracy, digits, read_as).savefig(Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
