"""The shallow-net thesis: Figs. 3.2, 3.3, 3.4, 3.6 and 3.10, and Table 3.1.

The shallow-net thesis prints no numbers of the figures, so the targets test the claims of its text.
It does not print its number of seeds; ours is six. The tolerances are chosen: .2 points on clean
images, 5 points for the gap.
"""

from papers.running.target import Claim, Measure, Row, Run, Target

SEEDS = {"replicas.seeds": 6}
WIDTHS = (5, 20, 50, 100, 400, 800, 2000)
TRAINING_EPS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
OTHER_EPS = tuple(eps for eps in TRAINING_EPS if eps != 0.1)
A, B, C = (Run("shallow_mnist", f"model={model}", SEEDS) for model in "ABC")
AC, BC = (Run("shallow_cifar10", f"model={model}", SEEDS) for model in "AB")
KINDS = {"FGSM": "fgsm", "noise": "gaussian_noise"}  # perturbations of the test images
COVTYPE_WIDTHS = (60, 80, 100, 120, 150)


def _width(model: str, width: int) -> Row:
    # 800 is the config's default: use the same training as Fig. 3.4.
    options = f"model={model}" + (f",width={width}" if width != 800 else "")
    run = Run("shallow_mnist", options, SEEDS)
    return Row(f"{model}, {width} units", run, metric="accuracy_percent")


def _changed(model: str, run: Run, kind: str, size: float) -> Row:
    """Returns a row: accuracy under FGSM of eps `size` or Gaussian noise of std `size`."""
    measure = Measure("error", KINDS[kind], size)
    return Row(f"{model}, {kind} {size:g}", run, measure=measure, metric="accuracy_percent")


def _covtype(model: str, name: str, width: int) -> Row:
    run = Run("shallow_covtype", f"model={model},width={width},inputs=raw", SEEDS)
    # The shallow-net thesis' ten numbers lie within .0013.
    return Row(
        f"{name}, {width} units", run, f"shallow_thesis.table3_1.{name}.h{width}", tolerance=0.002
    )


def _trained(measure: str, metric: str, eps: float) -> Row:
    run = Run("shallow_mnist", "sweep=eps", SEEDS)
    at = {"objective.attack.eps": eps}
    where = Measure(measure)
    return Row(f"{measure}, trained with eps {eps:g}", run, measure=where, at=at, metric=metric)


FIG3_2 = Target(
    "shallow_thesis.fig3.2",
    "Clean accuracy over the width, clean (A) and adversarial (B) training",
    rows=tuple(_width(model, width) for width in WIDTHS for model in "AB"),
    claims=(
        Claim(
            "with 5 units B is 17 points less accurate than A",
            "size",
            ("B, 5 units", "A, 5 units"),
            id="shallow_thesis.fig3_2.gap_5_units",
            by=17,
            tolerance=5,
        ),
        Claim(
            "with fewer than 100 units B is less accurate than A: 50 units",
            "gain",
            ("B, 50 units", "A, 50 units"),
            id="shallow_thesis.fig3_2.adv_worse_below_100",
        ),
    ),
)
FIG3_3 = Target(
    "shallow_thesis.fig3.3",
    "800 units over the eps of training, clean test set",
    rows=(
        *(_trained("error", "error_percent", eps) for eps in TRAINING_EPS),
        *(_trained("confidence", "confidence", eps) for eps in TRAINING_EPS),
    ),
    claims=(
        Claim(
            "training with eps .1 is the most accurate",
            "lowest",
            tuple(f"error, trained with eps {eps:g}" for eps in (0.1, *OTHER_EPS)),
            id="shallow_thesis.fig3_3.best_eps",
        ),
        Claim(
            "confidence falls as eps grows",
            "falling",
            tuple(f"confidence, trained with eps {eps:g}" for eps in TRAINING_EPS[1:]),
            id="shallow_thesis.fig3_3.confidence_falls",
        ),
    ),
)
FIG3_4 = Target(
    "shallow_thesis.fig3.4",
    "800 units on adversarial and on noisy digits, clean (A) and adversarial (B) training",
    rows=tuple(
        _changed(model, run, kind, size)
        for kind in KINDS
        for size in TRAINING_EPS
        for model, run in (("A", A), ("B", B))
    ),
    claims=(
        Claim(
            "FGSM of eps .1 fools A",
            "gain",
            ("A, FGSM 0.1", "A, FGSM 0"),
            id="shallow_thesis.fig3_4.left.clean_fooled",
        ),
        Claim(
            "B resists FGSM of eps .1 better than A",
            "gain",
            ("A, FGSM 0.1", "B, FGSM 0.1"),
            id="shallow_thesis.fig3_4.left.adv_resists",
        ),
        Claim(
            "B resists noise of a std below .22 better than A: .15",
            "gain",
            ("A, noise 0.15", "B, noise 0.15"),
            id="shallow_thesis.fig3_4.right.below",
        ),
        Claim(
            "A resists noise of a std above .22 better than B: .3",
            "gain",
            ("B, noise 0.3", "A, noise 0.3"),
            id="shallow_thesis.fig3_4.right.crossover",
        ),
    ),
)
FIG3_6 = Target(
    "shallow_thesis.fig3.6",
    "800 units on clean, adversarial and noisy digits, adversarial (B) and noisy (C) training",
    rows=(
        Row("B, clean", B, "shallow_thesis.fig3_6.B.clean", tolerance=0.2),
        Row("C, clean", C, "shallow_thesis.fig3_6.C.clean", tolerance=0.2),
        *(
            _changed(model, run, kind, 0.1 if kind == "FGSM" else 0.25)
            for kind in KINDS
            for model, run in (("A", A), ("B", B), ("C", C))
        ),
    ),
    claims=(
        Claim(
            "C resists FGSM of eps .1 better than A",
            "gain",
            ("A, FGSM 0.1", "C, FGSM 0.1"),
            id="shallow_thesis.fig3_6.left.C_vs_A",
        ),
        Claim(
            "C resists noise of a std of .25 better than B",
            "gain",
            ("B, noise 0.25", "C, noise 0.25"),
            id="shallow_thesis.fig3_6.right.C_best",
        ),
        Claim(
            "C resists noise of a std of .25 better than A",
            "gain",
            ("A, noise 0.25", "C, noise 0.25"),
        ),
    ),
)
FIG3_10 = Target(
    "shallow_thesis.fig3.10",
    "2,500 units on gray CIFAR-10, clean (Ac) and adversarial (Bc) training",
    rows=tuple(
        _changed(model, run, kind, size)
        for kind in KINDS
        for size in (0.0, 0.1, 0.25)
        for model, run in (("Ac", AC), ("Bc", BC))
    ),
    claims=(
        Claim(
            "Bc is more accurate than Ac on clean images",
            "gain",
            ("Ac, FGSM 0", "Bc, FGSM 0"),
            id="shallow_thesis.fig3_10.clean",
        ),
        Claim(
            "Bc resists FGSM of eps .1 better than Ac",
            "gain",
            ("Ac, FGSM 0.1", "Bc, FGSM 0.1"),
            id="shallow_thesis.fig3_10.left",
        ),
        Claim(
            "Bc is more accurate under FGSM of eps .25, that of its training, than on clean images",
            "gain",
            ("Bc, FGSM 0", "Bc, FGSM 0.25"),
            id="shallow_thesis.fig3_10.label_leak",
        ),
    ),
)
TABLE3_1 = Target(
    "shallow_thesis.table3.1",
    "Covertype as it is, without any scaling; .4876 of the cells are of one class",
    rows=tuple(
        _covtype(model, name, width)
        for width in COVTYPE_WIDTHS
        for model, name in (("A", "clean"), ("B", "adv"))
    ),
)

TARGETS = (FIG3_2, FIG3_3, FIG3_4, FIG3_6, FIG3_10, TABLE3_1)
