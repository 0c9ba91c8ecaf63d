"""Shallow nets on grey CIFAR-10: clean (Ac), or with half of each batch adversarial (Bc).

Run:    python -m adv_jax.main --config=configs/shallow_cifar10.py:model=A
        python -m adv_jax.main --config=configs/shallow_cifar10.py:model=B
Quick:  python -m adv_jax.main --config=configs/shallow_cifar10.py:quick   (100 units, two epochs)
Figure: python -m adv_jax.report thesis.fig3.10 --workdir=RUN_OF_A --workdir=RUN_OF_B
Options, joined by commas: quick or paper; model=A|B.

As configs/shallow_mnist.py, with 2,500 hidden ReLU units and images of 32 x 32 grey values from 0
to 1; 40,000 images to train, 10,000 to validate. CIFAR-10 has no embedded sample, so quick reads
the same data as paper, --config.data.source=tfds or files.

The thesis prints no number: Bc is more accurate than Ac on clean images, does "an amazing job" on
adversarial ones, for they carry their label, and is not much better than Ac on noisy ones.

Nothing is measured yet.

Source: the shallow-net thesis, sec. 3.5, Fig. 3.10, and its program, sec. 4.3. It names neither its
formula of grey (here the luma of ITU-R BT.601), nor the range of the values, nor the eps of Bc
(here .25, the one it prints for MNIST), nor its validation images (here drawn with the seed,
balanced by class), nor the epochs: "3 days", or "more that 48 hours".
"""

from ml_collections import ConfigDict, config_dict

ALLOWED = {"mode": ("paper", "quick"), "model": ("A", "B")}


def get_config(mode: str = "paper") -> ConfigDict:
    chosen = {"mode": "paper", "model": "B"}
    for option in mode.split(","):
        key, _, value = option.rpartition("=")
        key = key or "mode"
        if value not in ALLOWED.get(key, ()):
            raise ValueError(f"mode has {option!r}; allowed are quick, paper, model=A|B")
        chosen[key] = value

    c = ConfigDict()
    c.experiment = "shallow_cifar10"
    c.seed = 1
    c.replicas = ConfigDict(
        {"seeds": 1, "grid": config_dict.placeholder(object), "shards": 1}, convert_dict=False
    )
    c.data = ConfigDict({"name": "cifar10", "source": "tfds", "dir": ""})
    c.data.num_valid, c.data.num_labels = 10_000, 0
    c.data.preprocess = ({"name": "grey"},)
    c.model = {
        "name": "mlp",
        "features": (2500,),
        "num_classes": 10,
        "activation": "relu",
        "hidden_init": {"name": "sparse", "connections": 15},
        "output_init": {"name": "zero"},
    }
    if chosen["model"] == "A":
        c.objective = {"name": "cross_entropy"}
    else:
        attack = {"name": "fgsm", "norm": "linf", "eps": 0.25}
        c.objective = {"name": "adversarial_mix", "alpha": 0.5, "attack": attack}
    c.optimizer = {
        "name": "sgd",
        "learning_rate": 0.01,
        "momentum": {
            "name": "linear_schedule",
            "init_value": 0.5,
            "end_value": 0.99,
            "transition_steps": 9,
        },
    }
    c.epochs = 1500
    c.batch_size = 200
    c.patience = 100
    c.monitor_every = 1
    c.checkpoint_every = 5
    c.checkpoints_kept = 3
    c.tensorboard = False
    c.evaluation = {
        "attacks": {
            "fgsm": {"name": "fgsm", "norm": "linf"},
            "gaussian_noise": {"name": "gaussian_noise"},
        },
        "eps": (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3),
    }
    if chosen["mode"] == "quick":
        c.model.features = (100,)
        c.epochs = 2
    return c
