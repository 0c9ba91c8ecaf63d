"""Domain-adversarial training from MNIST to blended MNIST ([ganin2016]).

Run:    python -m adv_jax.main --config=configs/dann_mnist.py
Quick:  python -m adv_jax.main --config=configs/dann_mnist.py:quick   (5,000 embedded digits)

The digits of the source have labels. The target has the same digits without labels, each blended
with a smooth background of its own, x' = |x - b|: `data.preprocessing.blend`. Test images are of
the target. The features maximize the loss of an adversary that guesses the domain.

Options, joined by commas:

    quick or paper
    weight=W        of the adversary for the features, lambda of the paper (.3); 0: no adaptation
    sweep=none|weight   the weights 0, .1, .3 and 1 as replicas

A table of others names .7666 as the paper's accuracy from MNIST to MNIST-M, whose backgrounds are
patches of photographs.

Deviations: the backgrounds; gray images; lambda is constant, where the paper's rises from 0; one
hidden layer after the convolutions; Adam.

Results: docs/results.md
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import add_pgd, base, parse_options

WEIGHTS = (0.0, 0.1, 0.3, 1.0)


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode, weight=(0.3, float), sweep=("none", "weight"))

    c = base("dann_mnist", {"name": "mnist"})
    c.data.target = ({"name": "blend", "cells": 4, "strength": 0.5},)
    c.model = {
        "name": "judged",
        "net": "lenet",
        "features": (32, 48, 100),
        "layer": 2,
        "adversary_features": (100,),
        "num_classes": 10,
        "activation": "relu",
        "dropout": (),
    }
    c.objective = {"name": "domain_adversarial", "weight": options.weight}
    adam = {"name": "adam", "learning_rate": 0.001}
    c.optimizer = {"name": "players", "classifier": adam, "adversary": adam}
    c.epochs = 20
    c.batch_size = 100
    if options.sweep == "weight":
        c.replicas.grid = {"objective.weight": WEIGHTS}
    if options.quick:
        c.data.source = "embedded"
        c.model.features = (16, 24, 100)
        c.epochs = 10
        add_pgd(c)
    return c
