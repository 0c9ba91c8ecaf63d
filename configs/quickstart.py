"""A multilayer perceptron trained on clean and FGSM examples: the place to start from.

Run:    python -m adv_jax.main --config=configs/quickstart.py
Quick:  python -m adv_jax.main --config=configs/quickstart.py:quick   (5,000 embedded digits)

Two hidden layers, Adam, a few epochs; at the end error and confidence against eps. Every line may
be overridden: --config.objective.attack.eps=.1, --config.replicas.seeds=4,
--config.replicas.grid="{'objective.attack.eps': (.1, .2)}".
"""

from ml_collections import ConfigDict, config_dict


def get_config(mode: str = "paper") -> ConfigDict:
    if mode not in ("paper", "quick"):
        raise ValueError(f"mode is {mode!r}; allowed are paper, quick")
    c = ConfigDict()
    c.experiment = "quickstart"
    c.seed = 0
    c.replicas = ConfigDict(
        {"seeds": 1, "grid": config_dict.placeholder(object), "shards": 1}, convert_dict=False
    )
    c.data = ConfigDict({"name": "mnist", "source": "tfds", "dir": ""})
    c.data.num_valid, c.data.num_labels = 10_000, 0
    c.model = {
        "name": "mlp",
        "features": (400, 400),
        "num_classes": 10,
        "activation": "relu",
        "hidden_init": {"name": "fan_in"},
        "output_init": {"name": "fan_in"},
    }
    attack = {"name": "fgsm", "norm": "linf", "eps": 0.2, "bounds": (0.0, 1.0)}
    c.objective = {"name": "adversarial_mix", "alpha": 0.5, "attack": attack}
    c.optimizer = {"name": "adam", "learning_rate": 0.001}
    c.epochs = 20
    c.batch_size = 100
    c.patience = 0
    c.monitor_every = 1
    c.checkpoint_every = 1
    c.checkpoints_kept = 3
    c.tensorboard = False
    c.evaluation = {
        "attacks": {"fgsm": {"name": "fgsm", "norm": "linf", "bounds": (0.0, 1.0)}},
        "eps": (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3),
    }
    if mode == "quick":
        c.data.source, c.data.num_valid = "embedded", 500
        c.epochs = 10
    return c
