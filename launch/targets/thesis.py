"""The shallow-net thesis on MNIST: Figs. 3.2, 3.3, 3.4 and 3.6.

It prints no table of these: what the text says of the figures is tested. Runs are of six seeds, the
fewest with which a Wilcoxon test can be significant; the thesis does not say how many it has.
"""

from launch.targets import Below, Falling, Lowest, Measure, Row, Run, Target

SEEDS = {"replicas.seeds": 6}
WIDTHS = (5, 20, 50, 100, 400, 800)
TRAINING_EPS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
A, B = (Run("shallow_mnist", f"model={model}", SEEDS) for model in "AB")


def _width(model: str, width: int) -> Row:
    # 800 is the config's own width: the same training as in Fig. 3.4.
    options = f"model={model}" + (f",width={width}" if width != 800 else "")
    run = Run("shallow_mnist", options, SEEDS)
    return Row(f"{model}, {width} units", run, metric="accuracy_percent")


def _attacked(model: str, run: Run, eps: float) -> Row:
    measure = Measure("error", "fgsm", eps)
    return Row(f"{model}, FGSM {eps:g}", run, measure=measure, metric="accuracy_percent")


def _trained(measure: str, metric: str, eps: float) -> Row:
    run = Run("shallow_mnist", "sweep=eps", SEEDS)
    at = {"objective.attack.eps": eps}
    where = Measure(measure)
    return Row(f"{measure}, trained with eps {eps:g}", run, measure=where, at=at, metric=metric)


FIG3_2 = Target(
    "thesis.fig3.2",
    "Clean accuracy over the width, clean (A) and adversarial (B) training",
    rows=tuple(_width(model, width) for width in WIDTHS for model in "AB"),
    claims=(
        Below(
            "with 5 units B is 17 points less accurate than A",
            lower="B, 5 units",
            higher="A, 5 units",
            paper="thesis.fig3_2.gap_5_units",
            by=17,
            tolerance=5,
        ),
        Below(
            "with fewer than 100 units B is less accurate than A: 50 units",
            lower="B, 50 units",
            higher="A, 50 units",
        ),
    ),
)
FIG3_3 = Target(
    "thesis.fig3.3",
    "800 units over the eps of training, clean test set",
    rows=(
        *(_trained("error", "error_percent", eps) for eps in TRAINING_EPS),
        *(_trained("confidence", "confidence", eps) for eps in TRAINING_EPS),
    ),
    claims=(
        Lowest(
            "training with eps .1 is the most accurate",
            row="error, trained with eps 0.1",
            among=tuple(f"error, trained with eps {eps:g}" for eps in TRAINING_EPS),
            paper="thesis.fig3_3.best_eps",
        ),
        Falling(
            "confidence falls as eps grows",
            rows=tuple(f"confidence, trained with eps {eps:g}" for eps in TRAINING_EPS[1:]),
            paper="thesis.fig3_3.confidence_falls",
        ),
    ),
)
FIG3_4 = Target(
    "thesis.fig3.4",
    "800 units on adversarial digits, clean (A) and adversarial (B) training",
    rows=tuple(
        _attacked(model, run, eps) for eps in TRAINING_EPS for model, run in (("A", A), ("B", B))
    ),
    claims=(
        Below(
            "FGSM of eps .1 fools A",
            lower="A, FGSM 0.1",
            higher="A, FGSM 0",
        ),
        Below(
            "B resists FGSM of eps .1 better than A",
            lower="A, FGSM 0.1",
            higher="B, FGSM 0.1",
            paper="thesis.fig3_4.left.adv_resists",
        ),
    ),
)
FIG3_6 = Target(
    "thesis.fig3.6",
    "800 units on clean digits, adversarial training",
    rows=(Row("B, clean", B, "thesis.fig3_6.B.clean", tolerance=0.2),),
)

TARGETS = (FIG3_2, FIG3_3, FIG3_4, FIG3_6)
