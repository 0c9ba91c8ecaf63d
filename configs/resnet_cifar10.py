"""Residual nets of 20 to 110 layers on CIFAR-10, under any objective ([he2016]).

Run:    python -m adv_jax.main --config=configs/resnet_cifar10.py
        python -m adv_jax.main --config=configs/resnet_cifar10.py:depth=56,method=lwa
Quick:  python -m adv_jax.main --config=configs/resnet_cifar10.py:quick   (8 layers, 2 epochs)

Options, joined by commas:

    quick or paper
    depth=20|32|44|56|110
    method=natural|label_smoothing|adversarial_mix|adversarial_backprop|lwa|lwa_rep|trades|vat

CIFAR-10 has no embedded sample: quick reads the same data as paper.

Three stages of (depth - 2) / 6 pre-activated blocks have 16, 32 and 64 maps, with batch
normalization; wrn_cifar10 has wider nets of the same blocks. SGD has momentum .9 and weight decay
1e-4; its rate falls from .1 to .01 and .001 after half and three quarters of 164 epochs. Images are
shifted by up to 4 pixels and mirrored.

The test errors in % of [he2016resnet], whose blocks are post-activated:

    20 layers 8.75    32 layers 7.51    44 layers 7.17    56 layers 6.97    110 layers 6.43

Deviations: shortcuts that change the size are 1x1 convolutions; in [he2016resnet] they are
identities with zeros. Weight decay leaves out scales and biases. There is no warm-up for 110
layers. Tests average the statistics of the training set. The attacks of training are FGSM with eps
2 / 255, chosen here; the natural net is the source's.
More: docs/experiments.md. No result of this config is stored.
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import add_pgd, base, parse_options

EPS = 2 / 255
FGSM = {"name": "fgsm", "norm": "linf", "bounds": (0.0, 1.0)}
ATTACK = FGSM | {"eps": EPS}
PGD = {"name": "pgd", "norm": "linf", "bounds": (0.0, 1.0), "step_size": EPS / 4, "num_steps": 10}
METHODS: dict[str, dict] = {
    "natural": {"name": "cross_entropy"},
    "label_smoothing": {"name": "label_smoothing", "smoothing": 0.1, "form": "uniform"},
    "adversarial_mix": {"name": "adversarial_mix", "alpha": 0.5, "attack": ATTACK},
    "adversarial_backprop": {
        "name": "adversarial_backprop",
        "loss": "cross_entropy",
        "attack": ATTACK,
    },
    "lwa": {"name": "lwa", "attack": ATTACK},
    "lwa_rep": {
        "name": "lwa_rep",
        "layer": 1,
        "attack": {"name": "fgsm", "norm": "l2", "eps": 0.5},
    },
    "trades": {
        "name": "trades",
        "beta": 6.0,
        "attack": PGD | {"eps": EPS, "random_start": True, "returns": "last"},
    },
    "vat": {
        "name": "virtual_adversarial_training",
        "weight": 1.0,
        "attack": {"name": "virtual_adversarial", "eps": 0.5, "xi": 0.01, "num_steps": 1},
    },
}


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode, depth=(20, 32, 44, 56, 110), method=tuple(METHODS))

    c = base("resnet_cifar10", {"name": "cifar10", "pad": 4, "mirror": True})
    c.model = {
        "name": "preact_resnet",
        "stem": 16,
        "stages": (16, 32, 64),
        "blocks": (options.depth - 2) // 6,
        "num_classes": 10,
        "activation": "relu",
    }
    c.objective = METHODS[options.method]
    c.epochs = 164
    rate = {"name": "piecewise_constant", "values": (0.1, 0.01, 0.001), "boundaries": (82, 123)}
    c.optimizer = {"name": "sgd", "learning_rate": rate, "momentum": 0.9, "weight_decay": 1e-4}
    c.batch_size = 128
    c.checkpoints_kept = 2
    c.evaluation = {"attacks": {"fgsm": FGSM, "pgd": PGD}, "eps": (0.0, EPS, 8 / 255)}
    if options.quick:
        c.data.num_valid = 45_000  # Trains on 5,000 images.
        c.model.stem, c.model.stages, c.model.blocks = 4, (4, 8, 16), 1
        c.epochs, c.optimizer.learning_rate.boundaries = 2, (1, 2)
        c.evaluation.attacks = {"fgsm": c.evaluation.attacks.fgsm}
        add_pgd(c)
    return c
