"""A convolutional generative adversarial network on MNIST ([radford2016]).

Run:    python -m adv_jax.main --config=configs/dcgan_mnist.py
Quick:  python -m adv_jax.main --config=configs/dcgan_mnist.py:quick   (5,000 embedded digits)

Options, joined by commas:

    quick or paper
    loss=non_saturating|minimax     the generator's: -log D(G(z)), or log(1 - D(G(z)))

The constraints of the paper, as [wardefarley2016], sec. 1.4.4, lists them: convolutions of stride 2
instead of pooling, a generator that ends with tanh, batch normalization, rectified linear units in
the generator and leaky ones in the discriminator. Adam has the paper's rate and beta_1, and batches
have its 128 images.

The paper prints no likelihood. The test error is the share of test digits that the discriminator
calls generated. Samples: `python -m adv_jax.report goodfellow2014.convolutional --workdir=RUN`.

Deviations: the paper's nets are for images of 64 x 64 pixels, with 1,024 to 128 maps. Here two
layers of 128 and 64 maps take 7 x 7 to 28 x 28 pixels. Both players move at once.

Results: papers/goodfellow2014/README.md
"""

from ml_collections import ConfigDict

from adv_jax.configs.common import GENERATOR_LOSSES, generator_game, parse_options, shorten


def get_config(mode: str = "paper") -> ConfigDict:
    options = parse_options(mode, loss=GENERATOR_LOSSES)

    c = generator_game("dcgan_mnist", epochs=25, batch_size=128)
    c.model = {"name": "dcgan", "shape": (28, 28, 1), "latent": 100, "maps": (128, 64)}
    c.objective = {"name": "gan", "generator_loss": options.loss}
    if options.quick:
        shorten(c, epochs=40, every=10)
        c.model.maps = (32, 16)
    return c
