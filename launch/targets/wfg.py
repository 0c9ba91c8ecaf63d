"""Warde-Farley & Goodfellow 2016: label smoothing, and adversarial training under iteration.

The chapter has one net of each; here are three seeds. It prints no spread: tolerances are .2 points
clean and 10 under attack or transfer. The figures are `python -m adv_jax.report wfg. ...`.
"""

from launch.targets import Below, Drawn, Measure, Row, Run, Target

SEEDS = {"replicas.seeds": 3}
PLAIN, SMOOTHED, TRAINED = (
    Run("goodfellow_mnist", f"method={method}", SEEDS)
    for method in ("plain", "smoothing", "adversarial")
)
NETS = {
    name: Run("goodfellow_mnist", "method=plain" if name == "maxout" else f"model={name}", SEEDS)
    for name in ("maxout", "relu", "tanh", "softmax")
}


def _transferred(label: str, net: str, cell: str) -> Row:
    return Row(label, NETS[net], f"wfg.table1_1.{cell}", 10.0, Drawn(cell))


def _under(label: str, run: Run, paper: str, attack: str, eps: float) -> Row:
    return Row(label, run, f"wfg.{paper}", 10.0, Measure("error", attack, eps))


TARGETS = (
    Target(
        "wfg.table1.1",
        "FGSM's examples of a maxout net and of smoothed nearest neighbours, seen by others",
        (
            _transferred("maxout to nearest neighbour", "maxout", "maxout_to_nn"),
            _transferred("smoothed to nearest neighbour", "maxout", "smoothed_nn_to_nn"),
            _transferred("maxout to ReLU net", "relu", "maxout_to_relu"),
            _transferred("maxout to tanh net", "tanh", "maxout_to_tanh"),
            _transferred("maxout to softmax regression", "softmax", "maxout_to_softmax"),
        ),
    ),
    Target(
        "wfg.label_smoothing",
        "Maxout on MNIST with and without label smoothing, FGSM of eps .25",
        (
            Row("plain, clean", PLAIN, "wfg.label_smoothing.base.clean", 0.2),
            _under("plain, FGSM", PLAIN, "label_smoothing.base.fgsm", "fgsm", 0.25),
            Row("smoothed, clean", SMOOTHED, "wfg.label_smoothing.smooth.clean", 0.2),
            _under("smoothed, FGSM", SMOOTHED, "label_smoothing.smooth.fgsm", "fgsm", 0.25),
        ),
        claims=(
            Below(
                "label smoothing lowers the error under FGSM",
                lower="smoothed, FGSM",
                higher="plain, FGSM",
                paper="wfg.label_smoothing.works",
            ),
        ),
    ),
    Target(
        "wfg.adversarial_training",
        "Maxout trained on FGSM of eps .25, under one step and under iteration",
        (
            _under("trained, FGSM .25", TRAINED, "advtrain.fgsm_25", "fgsm", 0.25),
            _under("trained, iterated .25", TRAINED, "advtrain.iter_25", "pgd", 0.25),
            _under("trained, iterated .1", TRAINED, "advtrain.iter_10", "pgd", 0.1),
            _under("plain, iterated .1", PLAIN, "advtrain.clean_iter_10", "pgd", 0.1),
        ),
        claims=(
            Below(
                "training with FGSM of .25 helps against the iterated attack of .1",
                lower="trained, iterated .1",
                higher="plain, iterated .1",
            ),
        ),
    ),
)
