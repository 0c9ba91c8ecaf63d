"""[zhang2019]: accuracies of the TRADES net on MNIST in the white box, and the effect of beta.

The authors print one run and no spread. What counts as equal is chosen: .5 clean, 1.5 under attack.
"""

from papers.running.target import Claim, Measure, Row, Run, Target

TRADES = Run("trades_mnist", "", {"replicas.seeds": 3})
BETA_1 = Run("trades_mnist", "", {"replicas.seeds": 3, "objective.beta": 1.0})
# cell of the leaderboard -> its label; it is also the name of the attack in the evaluation
WHITE_BOX = {
    "pgd_40": "PGD, 40 steps",
    "pgd_1000": "PGD, 1,000 steps",
    "auto_attack": "AutoAttack",
}


def _row(label: str, run: Run, cell: str) -> Row:
    measure = Measure("error", cell, 0.3)
    return Row(label, run, f"zhang2019.leaderboard.{cell}", tolerance=1.5, measure=measure)


TARGETS = (
    Target(
        "zhang2019.leaderboard",
        "A net trained by TRADES at eps .3, attacked in the white box",
        rows=(
            Row("clean", TRADES, "zhang2019.leaderboard.natural", tolerance=0.5),
            *(_row(label, TRADES, cell) for cell, label in WHITE_BOX.items()),
            Row("clean, beta 1", BETA_1),
            Row("PGD, 40 steps, beta 1", BETA_1, measure=Measure("error", "pgd_40", 0.3)),
        ),
        claims=(
            Claim(
                "a larger beta lowers the error under PGD",
                "gain",
                ("PGD, 40 steps", "PGD, 40 steps, beta 1"),
                id="zhang2019.claim.beta",
            ),
            Claim(
                "a larger beta raises the clean error",
                "gain",
                ("clean, beta 1", "clean"),
                id="zhang2019.claim.beta",
            ),
        ),
    ),
)
