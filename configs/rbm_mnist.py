"""A restricted Boltzmann machine on MNIST ([maronas2016], sec. 3.6.1; [salakhutdinov2008]).

Run:    python -m adv_jax.main --config=configs/rbm_mnist.py
        python -m adv_jax.main --config=configs/rbm_mnist.py:chains=data,steps=25
        python -m adv_jax.main --config=configs/rbm_mnist.py:visible=gaussian
Quick:  python -m adv_jax.main --config=configs/rbm_mnist.py:quick   (5,000 embedded digits)
Figure: python -m adv_jax.report maronas2016.boltzmann --workdir=RUN

Options, joined by commas:

    quick or paper
    chains=persistent|data      persistent contrastive divergence (PCD-k), or from the data (CD-k)
    steps=1|N                   k, Gibbs steps
    hidden=500|N                hidden units
    visible=binary|gaussian     pixels as probabilities of 1, or standardized, of unit variance

[salakhutdinov2008] estimates the test set's log-likelihood as -86.34 nats for 500 hidden units
trained by CD-25; the number is taken from the README of the program natural_bm, which compares
itself with the paper. The figure draws filters and samples, and estimates the log-likelihood of
binary units.

The test loss is the cross-entropy of the reconstruction (half the squared error for Gaussian units)
and no likelihood; nor is the training loss, which stays near 0.

Deviations: neither source prints all settings. The rate falls linearly to 0, as [tieleman2008] has
it for persistent chains. Gaussian units have a smaller one ([hinton2012guide], sec. 13.2).

Results: papers/maronas2016/README.md
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import NO_ATTACK, base, falling_sgd, parse_options

OBJECTIVES = {
    "persistent": "persistent_contrastive_divergence",
    "data": "contrastive_divergence",
}
RATES = {"binary": 0.05, "gaussian": 0.001}


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(
        mode,
        chains=tuple(OBJECTIVES),
        steps=(1, int),
        hidden=(500, int),
        visible=tuple(RATES),
    )

    c = base("rbm_mnist", {"name": "mnist"})
    c.model = {
        "name": "boltzmann",
        "shape": (28, 28, 1),
        "features": (options.hidden,),
        "visible": options.visible,
        "hidden_init": {"name": "gaussian", "std": 0.01},
    }
    if options.visible == "gaussian":
        c.data.preprocess = ({"name": "standardize"},)
    c.objective = {"name": OBJECTIVES[options.chains], "steps": options.steps}
    c.epochs = 60 if options.quick else 100
    c.optimizer = falling_sgd(c.epochs, RATES[options.visible])
    c.batch_size = 100
    c.checkpoint_every = 10
    c.evaluation = NO_ATTACK
    if options.quick:
        c.data.source = "embedded"
    return c
