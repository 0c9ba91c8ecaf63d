"""Linear and step units on MNIST, digit by digit: the perceptron and passive-aggressive rules.

Run:    python -m adv_jax.main --config=configs/online_mnist.py
        python -m adv_jax.main --config=configs/online_mnist.py:rule=pa1
Quick:  python -m adv_jax.main --config=configs/online_mnist.py:quick   (5,000 embedded digits)
Then:   python -m adv_jax.report maronas2016.online --workdir=RUN --workdir=RUN ...

Options, joined by commas:

    quick or paper
    rule=perceptron|pa|pa1|pa2|least_mean_squares|softmax

Ten units see each digit once per epoch, in batches of one, and begin at 0. A unit answers 1 for its
class and -1 for the others. The shallow-net thesis has the perceptron ([rosenblatt1958]) in sec.
2.1; [maronas2016], sec. 3.3.2, names the passive-aggressive rules ([crammer2006]) as online
learning. softmax is the cross-entropy of the same net.

Neither document prints a number for them.

Deviations: aggressiveness, and the rates of least_mean_squares and softmax, are chosen here. The
thresholds of the passive-aggressive units follow scikit-learn; [crammer2006] has none.
More: docs/experiments.md; results: papers/maronas2016/README.md.
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import add_pgd, base, parse_options

# The objective of each rule and its rate; with the rate 1 a step is the rule itself.
RULES = {
    "perceptron": ({"name": "perceptron"}, 1.0),
    "pa": ({"name": "passive_aggressive", "form": "pa"}, 1.0),
    "pa1": ({"name": "passive_aggressive", "form": "pa1", "aggressiveness": 0.001}, 1.0),
    "pa2": ({"name": "passive_aggressive", "form": "pa2", "aggressiveness": 0.001}, 1.0),
    "least_mean_squares": ({"name": "least_mean_squares"}, 0.001),
    "softmax": ({"name": "cross_entropy"}, 0.01),
}


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode, rule=tuple(RULES))
    c = base("online_mnist", {"name": "mnist"}, seeds=3)
    c.model = {"name": "mlp", "features": (), "num_classes": 10, "output_init": {"name": "zero"}}
    c.objective, rate = RULES[options.rule]
    c.optimizer = {"name": "sgd", "learning_rate": rate}
    c.epochs = 10
    c.batch_size = 1
    if options.quick:
        c.data.source = "embedded"
        add_pgd(c)
    return c
