"""[madry2018], Table 1: accuracies of the adversarially trained net in the white box.

The paper prints one run and no spread. What counts as equal is chosen: .5 clean, 1.5 under attack.
"""

from papers.running.target import Claim, Measure, Row, Run, Target

RUN = Run("pgd_mnist", "method=adversarial", {"replicas.seeds": 3})
# row of the paper -> label, attack of the evaluation
WHITE_BOX = {
    "fgsm": ("FGSM", "fgsm"),
    "pgd_40_1": ("PGD, 40 steps", "pgd_40"),
    "pgd_100_1": ("PGD, 100 steps", "pgd_100"),
    "pgd_40_20": ("PGD, 40 steps, 20 restarts", "pgd_40_20"),
    "pgd_100_20": ("PGD, 100 steps, 20 restarts", "pgd_100_20"),
}


def _row(entry: str, label: str, attack: str) -> Row:
    measure = Measure("error", attack, 0.3)
    return Row(label, RUN, entry, tolerance=1.5, measure=measure)


TARGETS = (
    Target(
        "madry2018.table1",
        "A net trained on PGD of eps .3, attacked in the white box",
        rows=(
            Row("clean", RUN, "madry2018.table1.A.natural", tolerance=0.5),
            *(_row(f"madry2018.table1.A.{cell}", *found) for cell, found in WHITE_BOX.items()),
            _row("madry2018.auto_attack.A", "AutoAttack", "auto_attack"),
        ),
        claims=(
            Claim(
                "more steps and restarts lower the accuracy",
                "falling",
                tuple(
                    WHITE_BOX[cell][0] for cell in ("fgsm", "pgd_40_1", "pgd_40_20", "pgd_100_20")
                ),
                id="madry2018.claim.multi_step_stronger",
            ),
        ),
    ),
)
