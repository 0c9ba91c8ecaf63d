"""LeNet on MNIST, normal or with a strong adversary ([huang2015], Table 2, Figures 1 and 2).

Run:    python -m adv_jax.main --config=configs/huang_lenet_mnist.py:method=lwa
        python -m adv_jax.main --config=configs/huang_lenet_mnist.py:method=normal --config.seed=101
        python -m adv_jax.main --config=configs/huang_lenet_mnist.py:fixed=runs/normal101
Quick:  python -m adv_jax.main --config=configs/huang_lenet_mnist.py:quick   (embedded digits)
Table:  python -m launch.reproduce huang2015.table2
Then:   python -m adv_jax.report huang2015.fig1 --workdir=RUN; likewise huang2015.fig2

Options, joined by commas:

    quick or paper
    method=lwa|normal
    fixed=WORKDIR                   a finished run, on which the examples of `fixed` are crafted

The paper's accuracies in %, l2 length 1.5 in units of (byte / 256):

              clean     fixed     adv_loss_sign    adv_loss    adv_alpha
    normal    99.16     63.42     69.40            39.98       37.92
    lwa       99.32     98.17     98.00            95.33       95.29

Deviations: [huang2015] says "standard LeNet". Units, dropout, rates, epochs and the r of training,
1.2, are those of the authors' program, whose results differ from the paper's. It trains on all
60,000 images, as here; the paper says 50,000. The initial weights N(0, 1 / inputs) are ours.
More: docs/experiments.md; results: docs/results.md.
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import add_pgd, base, parse_options

ADV_LOSS = {"name": "fgsm", "norm": "l2"}
ADV_LOSS_SIGN = {"name": "fgsm", "norm": "linf", "length": "l2"}
# method -> units of the full layer, dropout, objective, epochs at each rate.
NETS: dict[str, dict] = {
    "lwa": {
        "units": 400,
        "dropout": (0.0, 0.0, 0.0, 0.5),
        "objective": {"name": "lwa", "attack": ADV_LOSS | {"eps": 1.2}},
        "epochs": (60, 60),
    },
    "normal": {
        "units": 100,
        "dropout": (),
        "objective": {"name": "cross_entropy"},
        "epochs": (30, 20),
    },
}


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode, method=tuple(NETS), fixed=(None, str))
    net = NETS[options.method]

    c = base("huang_lenet_mnist", {"name": "mnist"})
    c.data.preprocess = ({"name": "pixel_scale", "mean": 0.0, "divisor": 256.0},)
    c.model = {
        "name": "lenet",
        "features": (20, 50, net["units"]),
        "num_classes": 10,
        "activation": "tanh",
        "dropout": net["dropout"],
        "hidden_init": {"name": "fan_in"},
        "output_init": {"name": "fan_in"},
    }
    c.objective = net["objective"]
    rate = {"name": "piecewise_constant", "values": (0.1, 0.01), "boundaries": net["epochs"][:1]}
    c.optimizer = {"name": "sgd", "learning_rate": rate}
    c.epochs = sum(net["epochs"])
    c.batch_size = 100
    c.monitor_train = options.method == "normal"  # [huang2015] prints it for Fig. 1: 100 %.
    c.checkpoint_every = 2
    c.checkpoints_kept = 2
    c.evaluation = {
        "attacks": {
            "adv_loss_sign": ADV_LOSS_SIGN,
            "adv_loss": ADV_LOSS,
            "adv_alpha": {"name": "adv_alpha", "norm": "l2"},
        },
        "eps": (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0),
    }
    if options.fixed:
        fixed = {"name": "transferred", "source_fn": options.fixed, "attack": ADV_LOSS}
        c.evaluation.attacks.fixed = fixed
    if options.quick:
        c.data.source = "embedded"
        c.epochs, c.optimizer.learning_rate.boundaries = 6, (4,)
        c.evaluation.eps = (0.0, 1.5)
        add_pgd(c)
    return c
