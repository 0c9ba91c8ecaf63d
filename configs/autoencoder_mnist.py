"""Autoencoders on MNIST ([hinton2006science], [vincent2010], [maronas2016], sec. 3.6.3).

Run:    python -m adv_jax.main --config=configs/autoencoder_mnist.py
        python -m adv_jax.main --config=configs/autoencoder_mnist.py:noise=masking,weights=tied
        python -m adv_jax.main --config=configs/autoencoder_mnist.py:training=stacked --workdir=RUN
        python -m adv_jax.main --config=configs/autoencoder_mnist.py:net=wide,pretrained=RUN
        python -m adv_jax.main --config=configs/dbn_mnist.py --workdir=DBN
        python -m adv_jax.main \
          --config=configs/autoencoder_mnist.py:net=dbn,weights=tied,pretrained=DBN
Quick:  python -m adv_jax.main --config=configs/autoencoder_mnist.py:quick   (5,000 embedded digits)
Then:   python -m adv_jax.main --config=configs/mlp_mnist.py:pretrained=RUN
        python -m adv_jax.report maronas2016.autoencoder --workdir=RUN

Options, joined by commas:

    quick or paper
    training=whole|stacked  all layers at once; or one after another, each in its own epochs
    net=deep|wide|dbn       ReLU layers of 1000, 500 and 250 units and a linear code of 30, the
                            default of whole; or sigmoid layers of 1000, 1000 and 1000 units, that
                            of stacked; or of 500, 500 and 2000, those of dbn_mnist
    weights=free|tied       tied: the decoder's weights are the transposed ones of the encoder
    noise=none|masking|gaussian   sets each of a layer's inputs to 0 with probability 1/4, the
                            default of stacked; or adds noise of standard deviation .3
    pretrained=RUN          starts from a finished run of the same net and weights, which is so
                            unrolled; a finished dbn_mnist needs weights=tied

The test loss is the cross-entropy of reconstructions of clean digits in nats, with pixels as
probabilities. `training=stacked` is one run: the loss is a sum over layers, each of which
reconstructs its own detached inputs, and the rate of a layer's optimizer is 0 outside its epochs.

For the error of a classifier that starts from three stacked autoencoders see `mlp_mnist`.

Deviations: the nets train by Adam, [hinton2006science] by conjugate gradients, [vincent2010] by
gradient descent; [vincent2010] searches size, noise and rates on validation data, and sets exactly
the given share of the inputs to 0. Results: docs/results.md
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import ENCODERS, NO_ATTACK, base, parse_options

NOISES = {"none": {}, "masking": {"masking": 0.25}, "gaussian": {"noise_std": 0.3}}


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(
        mode,
        training={
            "whole": {"net": "deep", "noise": "none"},
            "stacked": {"net": "wide", "noise": "masking"},
        },
        net=("deep", "wide", "dbn"),
        weights=("free", "tied"),
        noise=tuple(NOISES),
        pretrained=(None, str),
    )
    net, stacked = options.net, options.training == "stacked"
    if stacked and net == "deep":
        raise ValueError("net must be wide or dbn with training=stacked, got 'deep'")

    c = base("autoencoder_mnist", {"name": "mnist"})
    features = ENCODERS["quick" if options.quick else "paper"][net]
    c.model = {
        "name": "autoencoder",
        "shape": (28, 28, 1),
        "features": features,
        "activation": "relu" if net == "deep" else "sigmoid",
        "linear_code": net == "deep",
        "tied": options.weights == "tied",
        "loss": "cross_entropy",
        "hidden_init": {"name": "fan_in"},
    }
    level = "stacked" if stacked else "input"
    c.objective = {"name": "reconstruction", "level": level, **NOISES[options.noise]}
    c.optimizer = {"name": "adam", "learning_rate": 0.001}
    c.epochs = epochs = 20 if options.quick else 50
    if stacked:
        owners = {f"hidden{i + 1}": _owner(i, epochs) for i in range(len(features))}
        layers = {"name": "players", **owners}
        c.optimizer = {"name": "players", "encoder": layers, "decoder": layers}
        c.epochs = epochs * len(features)
    if options.pretrained:
        c.pretrained = {"workdir": options.pretrained, "part": ""}
    c.batch_size = 100
    c.checkpoint_every = 5
    c.evaluation = NO_ATTACK
    if options.quick:
        c.data.source = "embedded"
    return c


def _owner(before: int, epochs: int) -> dict:
    """Returns the optimizer of a layer that waits for `before` layers and then has its epochs."""
    moves = {"values": (0.0, 0.001, 0.0), "boundaries": (before * epochs, (before + 1) * epochs)}
    return {"name": "adam", "learning_rate": {"name": "piecewise_constant", **moves}}
