"""A deep belief network on MNIST: a stack of RBMs, one after another ([hinton2006]).

Run:    python -m adv_jax.main --config=configs/dbn_mnist.py --workdir=RUN
        python -m adv_jax.main --config=configs/mlp_mnist.py:net=dbn,pretrained=RUN
Quick:  python -m adv_jax.main --config=configs/dbn_mnist.py:quick   (5,000 embedded digits)
Figure: python -m adv_jax.report maronas2016.belief_network --workdir=RUN

Options: quick or paper.

The RBMs train in one run, each with persistent chains, on the means of the layer below it and in
its own third of the epochs; outside of them its optimizer has the rate 0 ([maronas2016], sec.
3.6.2, Fig. 9). Unrolled, the stack is an autoencoder with tied weights, and the test loss is its
reconstruction's cross-entropy. mlp_mnist fine-tunes it: its layers are the part "encoder" of the
stack.

[hinton2006] has a test error of 1.25 %, which [salakhutdinov2009] cites as 1.2 %: that of a
generative net which models the labels, too, and was not fine-tuned as here.

Deviations: rates, weight decay and epochs are chosen here; [hinton2006] trains by contrastive
divergence and then fine-tunes the generative net.

Results: papers/maronas2016/README.md
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import ENCODERS, NO_ATTACK, base, greedy, parse_options


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode)
    c = base("dbn_mnist", {"name": "mnist"})
    features = ENCODERS["quick" if options.quick else "paper"]["dbn"]
    c.batch_size = 100
    if options.quick:
        c.data.source = "embedded"
    c.model = {
        "name": "dbn",
        "shape": (28, 28, 1),
        "features": features,
        "visible": "binary",
        "hidden_init": {"name": "gaussian", "std": 0.01},
    }
    c.objective = {"name": "persistent_contrastive_divergence", "steps": 1}
    epochs, rate = (30, 0.2) if options.quick else (50, 0.05)
    c.update(greedy(len(features), epochs=epochs, rate=rate))
    c.checkpoint_every = 10
    c.evaluation = NO_ATTACK
    return c
