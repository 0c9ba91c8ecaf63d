"""A classifier on MNIST that may start from an encoder ([vincent2010], [hinton2006science]).

Run:    python -m adv_jax.main --config=configs/mlp_mnist.py
        python -m adv_jax.main --config=configs/mlp_mnist.py:pretrained=RUN
        python -m adv_jax.main --config=configs/mlp_mnist.py:pretrained=RUN,labels=100
Quick:  python -m adv_jax.main --config=configs/mlp_mnist.py:quick   (5,000 embedded digits)

Options, joined by commas:

    quick or paper
    net=wide|deep|dbn|dbm   784-1000-1000-1000-10, 784-500-500-2000-10 or 784-500-1000-10 of sigmoid
                            units; deep: 784-1000-500-250-10 of ReLU
    pretrained=RUN          a finished run to start from, of the same mode: autoencoder_mnist with
                            this net, dbn_mnist or dbm_mnist
    labels=full|100|1000    balanced by class

Two commands pre-train a net, on all images, and fine-tune it:

    python -m adv_jax.main --config=configs/autoencoder_mnist.py:training=stacked --workdir=RUN
    python -m adv_jax.main --config=configs/mlp_mnist.py:pretrained=RUN

[vincent2010], Table 3, test error in % on MNIST with all labels: three stacked denoising
autoencoders 1.28, three stacked autoencoders without noise 1.40, a deep belief network 1.24.
It prints none for 100 labels. [hinton2006]: a deep belief network 1.25. [salakhutdinov2009]: a deep
Boltzmann machine .95, a deep belief network 1.2. [hinton2006science]: back-propagation from random
weights 1.6.

Deviations: Adam for a given number of epochs in place of gradient descent with early stopping; no
search of hyper-parameters. [salakhutdinov2009]'s classifier sees the mean field of the second
layer beside the pixels.
Results: docs/results.md
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import ENCODERS, add_pgd, base, parse_options


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(
        mode, net=("wide", "deep", "dbn", "dbm"), pretrained=(None, str), labels=("full", 100, 1000)
    )
    c = base("mlp_mnist", {"name": "mnist"})
    features = ENCODERS["quick" if options.quick else "paper"][options.net]
    deep = options.net == "deep"
    c.model = {
        "name": "mlp",
        "features": features[:-1] if deep else features,  # A linear code is no hidden layer.
        "num_classes": 10,
        "activation": "relu" if deep else "sigmoid",
        "hidden_init": {"name": "fan_in"},
        "output_init": {"name": "fan_in"},
    }
    c.objective = {"name": "cross_entropy"}
    c.optimizer = {"name": "adam", "learning_rate": 0.001}
    c.epochs = 20 if options.labels == "full" else 10
    c.batch_size = 100
    c.evaluation.attacks.fgsm.bounds = (0.0, 1.0)
    if options.labels != "full":
        c.data.num_labels = options.labels
    if options.pretrained:
        c.pretrained = {"workdir": options.pretrained, "part": "encoder"}
    if options.quick:
        c.data.source = "embedded"
        add_pgd(c)
    return c
