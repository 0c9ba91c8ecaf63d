"""Worker that calls one attack twice, on a LeNet with initial weights."""

import importlib.util
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from benchmarks.timing import seconds_of, serve

ROWS, EPS, STEPS = 100, 0.1, 40
BOUNDS = (0.0, 1.0)
# adv_jax's name -> settings
ATTACKS: dict[str, dict[str, Any]] = {
    "fgsm": {"eps": EPS},
    "pgd": {"eps": EPS, "num_steps": STEPS},
    "apgd": {"eps": EPS, "num_steps": STEPS},
    "square": {"eps": EPS, "num_queries": 100},
    "auto_attack": {"eps": EPS, "num_steps": 10, "num_queries": 100},
    "virtual_adversarial": {"eps": EPS},
    "adv_alpha": {"eps": EPS},
    "deepfool": {"num_steps": 10},
    "fab": {"num_steps": 10},
    "carlini_wagner": {"num_steps": 20, "search_steps": 3},
    "lbfgs": {"num_steps": 20, "search_steps": 3},
    "jsma": {"theta": 1.0, "gamma": 0.1},
}
_DRAWS = ("apgd", "square", "auto_attack", "virtual_adversarial")
_BOTH = ("foolbox", "torchattacks")
PEERS = {"fgsm": _BOTH, "pgd": _BOTH, "deepfool": _BOTH, "apgd": ("torchattacks",)}


def has(side: str) -> bool:
    return importlib.util.find_spec(side) is not None


def calls(side: str, name: str) -> dict[str, float]:
    """Returns the seconds of the first and of the second call, imports not included."""
    run = {"adv_jax": _adv_jax, "foolbox": _foolbox, "torchattacks": _torchattacks}[side](name)
    return {turn: seconds_of(run) for turn in ("first", "second")}


def _adv_jax(name: str) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    from adv_jax import attacks, data, models

    dataset = data.load("mnist", source="embedded")
    x, y = (jnp.asarray(array[:ROWS]) for array in dataset.test)
    model = models.lenet()
    apply, variables = models.apply_fn(model), models.init(model, jax.random.key(0), x[:2])
    settings = {**ATTACKS[name], "bounds": BOUNDS}
    if name in _DRAWS:
        settings["key"] = jax.random.key(1)
    if name in ("jsma", "lbfgs"):
        settings["targeted"], y = True, (y + 1) % 10
    attack = partial(getattr(attacks, name), **settings)
    # A new function in each call, as in a loop over batches.
    return lambda: jax.block_until_ready(attack(lambda x: apply(variables, x).logits, x, y))


def _net_and_digits() -> tuple[Any, Any, Any]:
    """Returns the same LeNet in PyTorch, with weights of its own, and the digits."""
    import torch
    from torch import nn

    from adv_jax import data

    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10)),
    ).eval()
    x, y = data.load("mnist", source="embedded").test
    digits = torch.tensor(x[:ROWS]).reshape(-1, 1, 28, 28)
    return net, digits, torch.tensor(y[:ROWS]).long()


def _foolbox(name: str) -> Callable[[], Any]:
    import foolbox

    net, x, y = _net_and_digits()
    model = foolbox.PyTorchModel(net, bounds=BOUNDS, device="cpu")
    attack = {
        "fgsm": foolbox.attacks.LinfFastGradientAttack,
        "pgd": partial(foolbox.attacks.LinfPGD, steps=STEPS),
        "deepfool": partial(foolbox.attacks.L2DeepFoolAttack, steps=10, candidates=10),
    }[name]()
    return lambda: attack(model, x, y, epsilons=None if name == "deepfool" else EPS)


def _torchattacks(name: str) -> Callable[[], Any]:
    import torchattacks

    net, x, y = _net_and_digits()
    attack = {
        "fgsm": partial(torchattacks.FGSM, eps=EPS),
        "pgd": partial(torchattacks.PGD, eps=EPS, alpha=EPS / 10, steps=STEPS),
        "apgd": partial(torchattacks.APGD, eps=EPS, steps=STEPS),
        "deepfool": partial(torchattacks.DeepFool, steps=10),
    }[name](net)
    return lambda: attack(x, y)


if __name__ == "__main__":
    serve(SimpleNamespace(has=has, calls=calls))
