"""PreAct-ResNet-18 or WRN-28-10 on CIFAR-10, adversarially trained inside linf 8 / 255.

Run:    python -m adv_jax.main --config=configs/wrn_cifar10.py
        python -m adv_jax.main --config=configs/wrn_cifar10.py:model=wrn28_10,method=fast
Quick:  python -m adv_jax.main --config=configs/wrn_cifar10.py:quick   (narrow, 2 epochs)

Options, joined by commas:

    quick or paper
    model=preact18|wrn28_10
    method=pgd|fast|free|consistency|natural

CIFAR-10 has no embedded sample: quick reads the same data as paper. It needs an accelerator; with
--config.model.dtype=bfloat16 the layers compute in bfloat16.

The nets are those of [he2016] and [zagoruyko2016], with 11.17 and 36.48 million weights. PGD takes
10 steps of 2 / 255 from a random start ([madry2018]); fast takes one of 10 / 255 ([wong2020]);
free takes 8 steps on each batch, whose gradients move weights and perturbation ([shafahi2019]);
consistency ([tack2022]) adds the divergence of two augmentations to PGD. SGD has momentum .9 and
weight decay 5e-4, its rate falls from .1 to .01 and .001 after half and three quarters of 200
epochs, of 30 with fast, of 25 with free. Images are shifted by up to 4 pixels and mirrored.

The authors' programs print these accuracies in % of PreAct-ResNet-18, clean and under PGD:

                              clean    PGD
    fast, 10 restarts of 50   86.06    46.06    [wong2020]
    PGD, 20 steps             84.48    46.09    [tack2022]
    consistency, 20 steps     84.65    54.86    [tack2022], with AutoAugment

Deviations: weight decay leaves out the scales and biases, attacks in training use the batch
statistics of the step before, and tests those averaged over the training set; the programs keep
moving averages. [wong2020] has a cyclic rate.
No result of this config is stored.
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import add_pgd, base, parse_options

EPS = 8 / 255
BALL = {"norm": "linf", "bounds": (0.0, 1.0)}
PGD = BALL | {"name": "pgd", "step_size": 2 / 255, "num_steps": 10}
TRAINING = {"eps": EPS, "random_start": True, "returns": "last"}
MODELS = {
    "preact18": {"stem": 64, "stages": (64, 128, 256, 512), "blocks": 2},
    "wrn28_10": {"stem": 16, "stages": (160, 320, 640), "blocks": 4},
}
EPOCHS = {"fast": 30, "free": 25}  # of the methods that need fewer than 200
ONE_STEP = {"step_size": 1.25 * EPS, "num_steps": 1}
METHODS: dict[str, dict] = {
    "pgd": {"name": "lwa", "attack": PGD | TRAINING},
    "fast": {"name": "lwa", "attack": PGD | TRAINING | ONE_STEP},
    "free": BALL | {"name": "free", "eps": EPS},
    "consistency": {
        "name": "consistency",
        "attack": PGD | TRAINING,
        "weight": 1.0,
        "temperature": 0.5,
    },
    "natural": {"name": "cross_entropy"},
}


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode, model=tuple(MODELS), method=tuple(METHODS))

    c = base("wrn_cifar10", {"name": "cifar10", "pad": 4, "mirror": True})
    c.model = {
        "name": "preact_resnet",
        **MODELS[options.model],
        "num_classes": 10,
        "activation": "relu",
    }
    c.objective = METHODS[options.method]
    c.epochs = EPOCHS.get(options.method, 200)
    c.replays = 8 if options.method == "free" else 1
    rate = {
        "name": "piecewise_constant",
        "values": (0.1, 0.01, 0.001),
        "boundaries": (c.epochs // 2, c.epochs * 3 // 4),
    }
    c.optimizer = {"name": "sgd", "learning_rate": rate, "momentum": 0.9, "weight_decay": 5e-4}
    c.batch_size = 128
    c.checkpoints_kept = 2
    c.evaluation = {
        "attacks": {"fgsm": BALL | {"name": "fgsm"}, "pgd_20": PGD | {"num_steps": 20}},
        "eps": (0.0, EPS),
    }
    c.monitor_attacks = {"names": ("fgsm", "pgd_20"), "eps": EPS, "rows": 1000}
    if options.quick:
        c.data.num_valid = 45_000  # Trains on 5,000 images.
        c.model.stem, c.model.stages, c.model.blocks = 4, (4, 8), 1
        c.epochs, c.optimizer.learning_rate.boundaries = 2, (1, 2)
        c.evaluation.attacks = {"fgsm": c.evaluation.attacks.fgsm}
        c.monitor_attacks.names = ("fgsm",)
        add_pgd(c)
    return c
