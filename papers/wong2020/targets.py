"""[wong2020] on MNIST: one-step training from a random start and from the digit, under PGD."""

from papers.running.target import Claim, Measure, Row, Run, Target

PGD = Measure("error", "pgd_20", 0.3)
STARTS = {
    label: Run("fast_mnist", f"start={start}", {"replicas.seeds": 3})
    for label, start in (("random start", "random"), ("start at the digit", "zero"))
}

TARGETS = (
    Target(
        "wong2020.mnist",
        "Nets trained on one step inside linf .3, attacked by 20 steps of PGD",
        rows=tuple(
            Row(label, run, metric="accuracy_percent", measure=PGD) for label, run in STARTS.items()
        ),
        claims=(
            Claim(
                "a random start resists PGD better",
                "gain",
                ("start at the digit", "random start"),
                id="wong2020.claim.random_start",
            ),
        ),
    ),
)
