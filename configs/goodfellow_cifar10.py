"""The convolutional maxout net of CIFAR-10, around whose test examples the chapter draws windows.

Run:    python -m adv_jax.main --config=configs/goodfellow_cifar10.py
Quick:  python -m adv_jax.main --config=configs/goodfellow_cifar10.py:quick   (narrow, one epoch)
Then:   python -m adv_jax.report wfg.fig1.2 wfg.fig1.3 wfg.fig1.4 --workdir=RUN
Options: quick or paper.

96, 192 and 192 maxout maps of 8 x 8, 8 x 8 and 5 x 5 weights, each with overlapping pooling, then
500 maxout units; 40,000 images to train, 10,000 to validate, contrast-normalised to length 55 and
whitened. An image's pass is 1.5 GFLOP, an epoch of training 175 TFLOP: this is for accelerators.
CIFAR-10 has no embedded sample, so quick reads the same data as paper, --config.data.source=tfds or
files.

The chapter prints no number of this net; its authors had a test error of 11.68 % in the end, when
it had learnt the validation images too (Goodfellow et al. 2013a, Table 3). Not measured here yet.

Source: Warde-Farley & Goodfellow 2016, sec. 1.2.3; the net, its preprocessing, its optimiser and
its rule to stop are of Goodfellow et al. 2013a, from Pylearn2's cifar10_no_aug_valid.yaml. There
the inputs that dropout keeps are not scaled up, the validation set is the last 10,000 images (here
drawn by the seed, balanced), and the max-norm is .9 in the first convolution and 1.9 in the full
layer. The rate reaches a hundredth after 500 epochs, which are the most here; there nothing ends a
training but 100 epochs without a better one.
"""

from ml_collections import ConfigDict, config_dict


def get_config(mode: str = "paper") -> ConfigDict:
    if mode not in ("paper", "quick"):
        raise ValueError(f"mode is {mode!r}; allowed are paper, quick")
    quick = mode == "quick"

    c = ConfigDict()
    c.experiment = "goodfellow_cifar10"
    c.seed = 1
    c.replicas = ConfigDict(
        {"seeds": 1, "grid": config_dict.placeholder(object), "shards": 1}, convert_dict=False
    )
    c.data = ConfigDict({"name": "cifar10", "source": "tfds", "dir": ""})
    c.data.num_valid, c.data.num_labels = 10_000, 0
    c.data.preprocess = (
        {"name": "contrast_norm", "norm": 55.0},
        {"name": "zca", "regularizer": 0.1},
    )
    # From so small weights a net takes hundreds of steps to begin to learn.
    init = {"name": "fan_in"} if quick else {"name": "uniform", "scale": 0.005}
    c.model = {
        "name": "maxout_conv",
        "maps": (4, 8, 8) if quick else (96, 192, 192),
        "kernel_sizes": (8, 8, 5),
        "pads": (4, 3, 3),
        "pieces": (2, 2, 2),
        "pools": (4, 4, 2),
        "units": (20,) if quick else (500,),
        "unit_pieces": 5,
        "num_classes": 10,
        "dropout": (0.2, 0.5, 0.5, 0.5, 0.5),
        "hidden_init": init,
        "output_init": init,
    }
    c.objective = {"name": "cross_entropy"}
    c.optimizer = {
        "name": "sgd",
        "learning_rate": {
            "name": "linear_schedule",
            "init_value": 0.17,
            "end_value": 0.0017,
            "transition_steps": 499,  # Pylearn2's decay is at a hundredth in the 500th epoch,
        },
        "momentum": {
            "name": "linear_schedule",
            "init_value": 0.5,
            "end_value": 0.6,
            "transition_steps": 249,  # and its momentum at .6 in the 250th.
        },
        "convolution_scale": 0.05,
        "max_norm": 1.9365,
    }
    c.epochs = 1 if quick else 500
    c.batch_size = 128
    c.patience = 0 if quick else 100
    c.monitor_every = 1
    c.checkpoint_every = 1
    c.checkpoints_kept = 2
    c.tensorboard = False
    c.evaluation = {
        "attacks": {"fgsm": {"name": "fgsm", "norm": "linf"}},
        "eps": (0.0, 0.05, 0.1, 0.25),
    }
    return c
