"""[huang2015], Tables 1 to 3: accuracies under perturbations of one l2 norm.

The paper has one run of each method; ours are three seeds. The Fixed column's examples are crafted
on a Normal net of seed 101. The paper prints no spread; the tolerances are chosen, .005 clean and
.05 under attack.
"""

from papers.target import Below, Measure, Row, Run, Target

SEEDS = {"replicas.seeds": 3}
TRAINING_C = (0.5, 1.0, 1.7, 2.5, 3.5)  # The authors' code has 1.7 for lwa, 1.5 for goodfellow.
# method of the config -> its name in the paper
METHODS = {
    "normal": "Normal",
    "dropout": "Dropout",
    "goodfellow": "Goodfellow",
    "lwa": "LWA",
    "lwa_rep": "LWA_Rep",
}
# column of the paper -> attack of the evaluation
COLUMNS = {
    "fixed": "fixed",
    "loss_sign": "adv_loss_sign",
    "loss": "adv_loss",
    "alpha": "adv_alpha",
}
# attack of the evaluation -> its name in the paper
ATTACKS = {
    "fixed": "Fixed",
    "adv_loss_sign": "Adv_Loss_Sign",
    "adv_loss": "Adv_Loss",
    "adv_alpha": "Adv_Alpha",
}


def _rows(table: int, config: str, methods: tuple[str, ...], eps: float) -> tuple[Row, ...]:
    source = Run(config, "method=normal", {"seed": 101})
    rows = []
    for method in methods:
        run = Run(config, f"method={method},fixed={{source}}", SEEDS, source)
        paper = f"huang2015.table{table}.{method}"
        rows.append(Row(f"{METHODS[method]}, clean", run, f"{paper}.validation", tolerance=0.005))
        rows += [
            Row(
                f"{METHODS[method]}, {ATTACKS[attack]}",
                run,
                f"{paper}.{column}",
                tolerance=0.05,
                measure=Measure("error", attack, eps),
            )
            for column, attack in COLUMNS.items()
        ]
    return tuple(rows)


def _gain(attack: str, paper: str | None = None) -> Below:
    return Below(
        f"LWA is more accurate than Goodfellow's method under {attack}",
        lower=f"Goodfellow, {attack}",
        higher=f"LWA, {attack}",
        paper=paper,
    )


def _training_c() -> Target:
    """Table 1's methods over the size of the training perturbation, which is not printed.

    Sizes are l2 norms: of the image for goodfellow and lwa, of the first layer for lwa_rep.
    """
    rows = []
    for method in ("goodfellow", "lwa", "lwa_rep"):
        grid = {"replicas.grid": {"objective.attack.eps": TRAINING_C}}
        run = Run("huang_mlp_mnist", f"method={method}", SEEDS | grid)
        for c in TRAINING_C:
            at = {"objective.attack.eps": c}
            rows.append(Row(f"{METHODS[method]}, c {c:g}, clean", run, at=at, metric="accuracy"))
            for attack in ("adv_loss_sign", "adv_loss"):
                measure = Measure("error", attack, 1.5)
                label = f"{METHODS[method]}, c {c:g}, {ATTACKS[attack]}"
                rows.append(Row(label, run, measure=measure, at=at, metric="accuracy"))
    claims = [
        Below(
            f"trained with c {c:g}, LWA is more accurate than Goodfellow's method under Adv_Loss",
            lower=f"Goodfellow, c {c:g}, Adv_Loss",
            higher=f"LWA, c {c:g}, Adv_Loss",
        )
        for c in TRAINING_C
    ]
    title = "Table 1 over the l2 length that is trained on, perturbed by l2 length 1.5"
    return Target("huang2015.training_c", title, tuple(rows), tuple(claims))


TARGETS = (
    Target(
        "huang2015.table1",
        "Multilayer perceptrons on MNIST, perturbed by l2 length 1.5",
        _rows(1, "huang_mlp_mnist", ("normal", "dropout", "goodfellow", "lwa", "lwa_rep"), eps=1.5),
        claims=(
            _gain("Adv_Loss", "huang2015.table1.claim_loss_gain"),
            _gain("Adv_Alpha", "huang2015.table1.claim_alpha_gain"),
            Below(
                "Dropout falls to the attack Adv_Loss too",
                lower="Dropout, Adv_Loss",
                higher="Dropout, clean",
            ),
        ),
    ),
    Target(
        "huang2015.table2",
        "LeNet on MNIST, perturbed by l2 length 1.5",
        _rows(2, "huang_lenet_mnist", ("normal", "lwa"), eps=1.5),
        claims=(
            Below(
                "LWA is no less accurate on clean digits",
                lower="Normal, clean",
                higher="LWA, clean",
                paper="huang2015.lenet.no_tradeoff",
                by=0,
                tolerance=0.005,
            ),
        ),
    ),
    Target(
        "huang2015.table3",
        "A net after VGG-D on CIFAR-10, perturbed by l2 length .5",
        _rows(3, "huang_vgg_cifar10", ("normal", "dropout", "lwa", "lwa_rep"), eps=0.5),
        claims=(
            Below(
                "LWA is more accurate than Normal under Adv_Loss",
                lower="Normal, Adv_Loss",
                higher="LWA, Adv_Loss",
            ),
        ),
    ),
    _training_c(),
)
