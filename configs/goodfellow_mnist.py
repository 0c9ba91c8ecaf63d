"""The chapter's nets and defences on permutation-invariant MNIST: maxout and what protects it.

Run:    python -m adv_jax.main --config=configs/goodfellow_mnist.py:method=smoothing
        python -m adv_jax.main --config=configs/goodfellow_mnist.py:model=relu
        python -m adv_jax.main --config=configs/goodfellow_mnist.py:method=teaching
        python -m adv_jax.main --config=configs/goodfellow_mnist.py:method=distillation,source=DIR
        python -m adv_jax.main --config=configs/goodfellow_mnist.py:method=vat,labels=100
Quick:  python -m adv_jax.main --config=configs/goodfellow_mnist.py:quick   (embedded digits)
Then:   python -m adv_jax.report wfg.label_smoothing --workdir=PLAIN,SMOOTHED
        python -m adv_jax.report wfg.fig1.2 wfg.fig1.3 wfg.fig1.4 --workdir=PLAIN
Options, joined by commas:
  model=maxout|relu|tanh|softmax|conv  2 x 240 maxout units of 5 pieces; 2 x 1200 units; softmax
      regression; the convolutional maxout net
  method=plain; adversarial, on x and FGSM's x + r; iterative, on x and PGD's; smoothing;
      teaching, a teacher for distillation; distillation; vat; dae, an autoencoder before a
      classifier, learnt from the FGSM examples of the classifier alone (without a model=)
  source=WORKDIR  of a finished run: the teacher of a distillation, the classifier behind a dae
  labels=full|100  of the training set; the others are used by vat alone
  form=printed|uniform|others  of label smoothing: .9 and .01 (as printed, which sum to .99),
      .91 and .01, .9 and .1 / 9
  temperature=T  of teaching and distillation

The paper's test errors in percent; ours with full MNIST, three seeds, 25 of 500 epochs:
  plain        1.28, FGSM .25 99.97; the iterative attack of size .1 79: 1.52, 99.7, 83
  smoothing    1.17, FGSM .25 33.0: 1.47, 85
  adversarial  FGSM .25 18; the iterative attack of size .25 97, of .1 22: 14, 99, 52
  distillation (10 epochs)  - : 2.33, FGSM .1 11, APGD on the ratio of logits .1 98, the teacher's
      examples of it 82
Table 1.1 (FGSM's examples of one model shown to another) and the figures: adv_jax.report. Each
defence with what it needs, three seeds, and the attacks on it: python -m launch.reproduce wfg.

Source: Warde-Farley & Goodfellow 2016, sec. 1.2.1, 1.2.7, 1.3. The maxout nets, their optimiser and
their rule to stop are those of Goodfellow et al. 2013a, from Pylearn2's mnist_pi.yaml and
mnist.yaml; there the inputs that dropout keeps are not scaled up, the validation set is the last
10,000 images (here drawn by the seed, balanced), and the first convolution has the max-norm .9. The
source does not print, and chosen here are: the optimiser of the other nets, that of the maxout net
but for their initial weights; the steps of the iterative attacks (40, in training 10, random
start); the weights of both terms of adversarial training, one half each; the temperature, 20; all
of vat (l2 length 2, one power iteration, weight 1); the autoencoder; Adam for it and for teachers
and students. As in the papers nothing is clipped to [0, 1].
"""

from ml_collections import ConfigDict, config_dict

FGSM = {"name": "fgsm", "norm": "linf"}
PGD = {"name": "pgd", "norm": "linf", "num_steps": 40}
FINE = {"name": "uniform", "scale": 0.005}
FAN_IN = {"name": "fan_in"}
DROPOUT = (0.2, 0.5, 0.5)
NETS: dict[str, dict] = {
    "maxout": {"name": "maxout", "features": (240, 240), "pieces": 5, "dropout": DROPOUT},
    "relu": {"name": "mlp", "features": (1200, 1200), "activation": "relu", "dropout": DROPOUT},
    "tanh": {"name": "mlp", "features": (1200, 1200), "activation": "tanh", "dropout": DROPOUT},
    "softmax": {"name": "mlp", "features": (), "activation": "relu", "dropout": ()},
    "conv": {
        "name": "maxout_conv",
        "maps": (48, 48, 24),
        "kernel_sizes": (8, 8, 5),
        "pads": (0, 3, 3),
        "pieces": (2, 2, 4),
        "pools": (4, 4, 2),
        "dropout": (0.2, 0.5, 0.5, 0.5),
    },
}
METHODS = (
    "plain",
    "adversarial",
    "iterative",
    "smoothing",
    "teaching",
    "distillation",
    "vat",
    "dae",
)
OF_A_RUN = ("distillation", "dae")  # methods that need a source
OF_METHODS = {"form": ("smoothing",), "temperature": ("teaching", "distillation")}


def get_config(mode: str = "paper") -> ConfigDict:
    chosen = _chosen(mode)
    method, source = chosen["method"], chosen["source"]

    c = ConfigDict()
    c.experiment = "goodfellow_mnist"
    c.seed = 1
    c.replicas = ConfigDict(
        {"seeds": 1, "grid": config_dict.placeholder(object), "shards": 1}, convert_dict=False
    )
    c.data = ConfigDict({"name": "mnist", "source": "tfds", "dir": ""})
    c.data.num_valid = 10_000
    c.data.num_labels = 0 if chosen["labels"] == "full" else int(chosen["labels"])
    # From so small weights a net takes hundreds of steps to begin to learn.
    fine = chosen["model"] in ("maxout", "conv") and chosen["mode"] == "paper"
    init = FINE if fine else FAN_IN
    c.model = NETS[chosen["model"]] | {"num_classes": 10, "hidden_init": init, "output_init": init}
    c.objective = {
        "plain": {"name": "cross_entropy"},
        "adversarial": {"name": "adversarial_mix", "alpha": 0.5, "attack": FGSM | {"eps": 0.25}},
        "iterative": {
            "name": "adversarial_mix",
            "alpha": 0.5,
            "attack": PGD | {"eps": 0.25, "num_steps": 10},
        },
        "smoothing": {"name": "label_smoothing", "smoothing": 0.1, "form": chosen["form"]},
        "teaching": {"name": "teaching", "temperature": float(chosen["temperature"])},
        "distillation": {
            "name": "distillation",
            "teacher_fn": source,
            "temperature": float(chosen["temperature"]),
        },
        "vat": {
            "name": "virtual_adversarial_training",
            "weight": 1.0,
            "attack": {"name": "virtual_adversarial", "eps": 2.0, "xi": 0.1, "num_steps": 1},
        },
        "dae": {
            "name": "denoising",
            "attack": {"name": "transferred", "source_fn": source, "attack": FGSM, "eps": 0.25},
        },
    }[method]
    # Pylearn2 divides the rate by 1.000004, that of the convolutional net by 1.00004, after each of
    # the 500 and 390 batches of an epoch.
    rate, decay = (0.05, 1.00004**-390) if chosen["model"] == "conv" else (0.1, 1.000004**-500)
    c.optimizer = {
        "name": "sgd",
        "learning_rate": {
            "name": "exponential_decay",
            "init_value": rate,
            "transition_steps": 1.0,
            "decay_rate": decay,
        },
        "momentum": {
            "name": "linear_schedule",
            "init_value": 0.5,
            "end_value": 0.7,
            "transition_steps": 249,  # Pylearn2's adjustor is at .7 in the 250th epoch.
        },
        "max_norm": 1.9365,
    }
    if method in ("teaching", "distillation", "dae"):
        # At a temperature the logits have to grow by it, which a max-norm hinders, on gradients
        # that are smaller by it, to which Adam is indifferent.
        c.optimizer = {"name": "adam", "learning_rate": 0.001}
    c.epochs = 500
    c.batch_size = 128 if chosen["model"] == "conv" else 100
    c.patience = 100
    c.monitor_every = 1
    c.checkpoint_every = 10
    c.checkpoints_kept = 2
    c.tensorboard = False
    c.evaluation = {
        "attacks": {"fgsm": FGSM, "pgd": PGD, "gaussian_noise": {"name": "gaussian_noise"}},
        "eps": (0.0, 0.1, 0.25),
    }
    on_the_source = {"name": "transferred", "source_fn": source}
    if method == "distillation":
        # At temperature 1 the softmax of student and teacher saturates, and neither the loss nor
        # the probabilities have a gradient left; that of the difference of logits ratio does not
        # depend on their scale.
        c.evaluation.attacks.adv_alpha = {"name": "adv_alpha", "norm": "linf"}
        c.evaluation.attacks.apgd_dlr = dlr = {"name": "apgd", "norm": "linf", "loss": "dlr"}
        c.evaluation.attacks.apgd_dlr_on_the_teacher = on_the_source | {"attack": dlr}
    if method == "dae":
        c.model = {"name": "denoised", "classifier_fn": source, "features": (256, 128, 256)}
        c.evaluation.attacks.fgsm_on_the_classifier_alone = on_the_source | {"attack": FGSM}
    if chosen["mode"] == "quick":
        c.data.source, c.data.num_valid = "embedded", 500
        c.epochs, c.patience = 20, 0
        if chosen["model"] == "conv":
            c.model.maps, c.epochs = (12, 12, 6), 10
    return c


def _chosen(mode: str) -> dict[str, str]:
    """The options of a mode, those that are not given at their defaults."""
    defaults = {
        "mode": "paper",
        "model": "maxout",
        "method": "plain",
        "source": "",
        "labels": "full",
        "form": "printed",
        "temperature": "20",
    }
    given: dict[str, str] = {}
    for option in mode.split(","):
        key, is_given, value = option.partition("=")
        key, value = (key, value) if is_given else ("mode", key)
        allowed = {
            "mode": ("paper", "quick"),
            "model": NETS,
            "method": METHODS,
            "source": (value,),
            "labels": ("full", "100"),
            "form": ("printed", "uniform", "others"),
            "temperature": (value,) if value.replace(".", "", 1).isdecimal() else (),
        }
        if value not in allowed.get(key, ()):
            raise ValueError(
                f"mode has {option!r}; allowed are quick, paper, model={'|'.join(NETS)}, "
                f"method={'|'.join(METHODS)}, source=WORKDIR, labels=full|100, "
                "form=printed|uniform|others, temperature=T"
            )
        given[key] = value
    chosen = defaults | given
    if chosen["method"] == "dae" and "model" in given:
        raise ValueError(
            f"mode has model={given['model']} and method=dae; allowed is no model with dae, whose "
            "classifier is that of the source"
        )
    if bool(chosen["source"]) != (chosen["method"] in OF_A_RUN):
        raise ValueError(
            f"mode has method={chosen['method']} and source={chosen['source']!r}; allowed is a "
            f"source, the workdir of a run, with {' and '.join(OF_A_RUN)} and only there"
        )
    for option, methods in OF_METHODS.items():
        if option in given and chosen["method"] not in methods:
            raise ValueError(
                f"mode has {option}={given[option]} and method={chosen['method']}; allowed is "
                f"{option} with {' and '.join(methods)} only"
            )
    return chosen
