"""Draws docs/certificates.png: `python docs/certificates.py MNIST_FOLDER`, minutes on a CPU.

Four nets are trained for three epochs on the 60,000 digits (seed 0). The accuracy under any attack
of linf size eps lies between the certificate (CROWN) and AutoAttack, here on the first 100 test
digits. Numbers are kept in docs/certificates.json.
"""

import json
import sys
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import optax

from adv_jax import attacks, data, evaluate, models, objectives, step, style

BOUNDS, EPS, TRAINED_AT = (0.0, 1.0), (0.01, 0.03, 0.06, 0.1), 0.1
EPOCHS, BATCH, ROWS, SEED = 3, 100, 100, 0
PGD = partial(attacks.pgd, eps=TRAINED_AT, bounds=BOUNDS, num_steps=7, returns="last")


class Convolutional(nn.Module):
    """Two convolutions of stride 2, then logits."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (4, 4), strides=2)(x))
        x = nn.relu(nn.Conv(16, (4, 4), strides=2)(x))
        return nn.Dense(10)(x.reshape(len(x), -1))


def dense():
    """Returns a perceptron of two hidden layers."""
    return models.mlp(features=(100, 100), num_classes=10)


# name -> net, objective of (apply, eps)
NETS = {
    "MLP, clean": (dense, lambda apply, eps: partial(objectives.cross_entropy, apply)),
    "MLP, PGD": (dense, lambda apply, eps: partial(objectives.lwa, apply, attack=PGD)),
    "MLP, CROWN-IBP": (
        dense,
        lambda apply, eps: partial(objectives.certified, apply, eps=eps, bounds=BOUNDS),
    ),
    "convolutional, PGD": (
        Convolutional,
        lambda apply, eps: partial(objectives.lwa, apply, attack=PGD),
    ),
}


def train(dataset, net, objective):
    """Returns the logits function of a trained net; eps rises to its value in half of the time."""
    apply, optimizer = models.apply_fn(net), optax.adam(1e-3)
    state = step.init_state(
        models.init(net, jax.random.key(SEED), dataset.train.x[:2]), optimizer, seed=SEED
    )

    @jax.jit
    def run(state, batches, eps):
        return step.over_steps(step.make_step(objective(apply, eps), optimizer))(state, batches)

    parts = 10 * EPOCHS
    for epoch in range(EPOCHS):
        rows = np.asarray(data.epoch_order(SEED, epoch, len(dataset.train.y)))
        for i, part in enumerate(np.split(rows, 10)):
            share = (10 * epoch + i + 1) / parts
            part = part.reshape(-1, BATCH)
            batches = {"x": dataset.train.x[part], "y": dataset.train.y[part]}
            state, _ = run(state, batches, np.float32(TRAINED_AT * min(1, 2 * share)))
    return lambda x: apply(state.variables, x).logits


def measure(logits_fn, test):
    """Returns accuracies: clean on all of the test set, and from below and above for each eps."""
    x, y = (array[:ROWS] for array in test)
    attack = partial(attacks.auto_attack, bounds=BOUNDS)
    suite, sizes = {"auto_attack": attack}, [0.0, *EPS]
    found = evaluate.evaluate(
        logits_fn, x, y, suite, eps=sizes, bounds=BOUNDS, key=jax.random.key(SEED), batch_size=50
    )
    shares = {
        method: evaluate.certify(
            logits_fn, x, y, sizes, method=method, bounds=BOUNDS, batch_size=20
        ).accuracy.tolist()
        for method in ("ibp", "crown_ibp", "crown")
    }
    clean = evaluate.clean(logits_fn, *test).accuracy
    return {"clean": float(clean), "auto_attack": found.worst_case.tolist(), **shares}


@style.styled()
def draw(accuracy):
    """Returns the figure: a panel for each net, its accuracies over eps."""
    figure, (panels,) = style.canvas(1, len(accuracy), width=3.1, height=3, sharey=True)
    sizes, proof = [0.0, *EPS], {"color": style.COLORS[1]}
    for panel, (name, found) in zip(panels, accuracy.items(), strict=True):
        panel.fill_between(sizes, found["crown"], found["auto_attack"], color="0.9", linewidth=0)
        attack = style.attack_style("auto_attack")
        panel.plot(sizes, found["auto_attack"], marker=".", label="AutoAttack", **attack)
        panel.plot(sizes, found["crown"], marker=".", label="CROWN", **proof)
        panel.plot(sizes, found["crown_ibp"], "--", label="CROWN-IBP", **proof)
        panel.plot(sizes, found["ibp"], ":", label="IBP", **proof)
        panel.set(title=name, xlim=(0, EPS[-1] * 1.03), xticks=(0, 0.05, 0.1))
        panel.set_xlabel(f"{style.size_label(['linf'])}, pixels in [0, 1]")
    style.shares(panels[0], f"accuracy on {ROWS} digits")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def main(folder, *names):
    """Trains, attacks and certifies the named nets, else all; draws all that have been measured."""
    dataset, kept = data.load("mnist", source="files", dir=folder), Path(__file__)
    numbers = kept.with_suffix(".json")
    settings = {"epochs": EPOCHS, "batch_size": BATCH, "rows": ROWS, "seed": SEED}
    settings |= {"eps": [0.0, *EPS], "trained_at": TRAINED_AT}
    for name in names or NETS:
        net, objective = NETS[name]
        measured = measure(train(dataset, net(), objective), dataset.test)
        print(name, measured, flush=True)
        found = json.loads(numbers.read_text())["accuracy"] if numbers.exists() else {}
        found[name] = measured
        accuracy = {name: found[name] for name in NETS if name in found}
        numbers.write_text(json.dumps(settings | {"accuracy": accuracy}, indent=1) + "\n")
    style.save(draw(accuracy), kept.with_suffix(".png"))


if __name__ == "__main__":
    main(*sys.argv[1:])
