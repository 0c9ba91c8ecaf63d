"""Warde-Farley & Goodfellow 2016: label smoothing, and adversarial training under iteration.

The chapter has one net of each; here are three seeds. It prints no spread: tolerances are .2 points
clean and 10 under attack. Table 1.1 and the figures are `python -m adv_jax.report wfg. ...`.
"""

from launch.targets import Below, Measure, Row, Run, Target

SEEDS = {"replicas.seeds": 3}
PLAIN, SMOOTHED, TRAINED = (
    Run("goodfellow_mnist", f"method={method}", SEEDS)
    for method in ("plain", "smoothing", "adversarial")
)


def _under(label: str, run: Run, paper: str, attack: str, eps: float) -> Row:
    return Row(label, run, f"wfg.{paper}", 10.0, Measure("error", attack, eps))


TARGETS = (
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
