"""Noise-contrastive estimation of an RBM on MNIST ([gutmann2010]; [maronas2016], sec. 3.6.1).

Run:    python -m adv_jax.main --config=configs/nce_mnist.py
        python -m adv_jax.main --config=configs/nce_mnist.py:ratio=5
Quick:  python -m adv_jax.main --config=configs/nce_mnist.py:quick   (5,000 embedded digits)
Figure: python -m adv_jax.report maronas2016.noise_contrastive --workdir=RUN

Options, joined by commas:

    quick or paper
    ratio=1|N       draws of noise for each digit
    hidden=500|N    hidden units

The machine is that of rbm_mnist, and its log Z is a parameter: the objective tells digits from
noise of a known density. [gutmann2010] prints no numbers of digits. The figure estimates the true
log Z and the log-likelihood, as that of rbm_mnist does.

Deviations: the source's noise is one distribution, chosen before training. Smoothed digits or
independent pixels are told from digits almost at once, and the machine puts its mass where such
noise never comes: in short trials its likelihood was below that of such noise. Two thirds of the
noise here are drawn around Gibbs samples of the machine, given which the density of the noise is
known. So the noise follows the machine, and chains are needed after all. The likelihood stays below
that of rbm_mnist, as noise is still easy to tell from digits.

The biases start at the log-odds of the mean of all pixels, as the machine should start near the
noise. log_normalizer has a rate of its own: its gradient is at most 1, that of the weights a sum
over many pixels.

Results: papers/maronas2016/README.md
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import NO_ATTACK, base, falling_sgd, parse_options


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode, ratio=(1, int), hidden=(500, int))

    c = base("nce_mnist", {"name": "mnist"})
    c.model = {
        "name": "normalized_rbm",
        "shape": (28, 28, 1),
        "features": (options.hidden,),
        "visible": "binary",
        "visible_mean": 0.13,
        "hidden_init": {"name": "gaussian", "std": 0.01},
    }
    c.objective = {
        "name": "noise_contrastive_estimation",
        "levels": (0.8, 1.0),
        "floor": 0.01,
        "ratio": options.ratio,
        "steps": 1,
    }
    c.epochs = 20
    c.optimizer = {
        "name": "players",
        "encoder": falling_sgd(c.epochs, 0.05),
        "decoder": falling_sgd(c.epochs, 0.05),
        "log_normalizer": falling_sgd(c.epochs, 1.0),
    }
    c.batch_size = 100
    c.checkpoint_every = 10
    c.evaluation = NO_ATTACK
    if options.quick:
        c.data.source = "embedded"
    return c
