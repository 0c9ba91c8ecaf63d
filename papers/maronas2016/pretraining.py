"""Targets of nets that start from unsupervised models, and of Boltzmann machines.

[maronas2016], sec. 3.6, prints no numbers of them. Those of other works: a log-likelihood of -86.34
nats of an RBM ([salakhutdinov2008]); a bound of -84.62 nats of a DBM, and errors with all labels of
.95 % from a DBM and 1.2 % from a DBN ([salakhutdinov2009]), 1.6 % from a random start
([hinton2006science]).
"""

from papers.target import Below, Drawn, Row, Run, Target

SEEDS = {"replicas.seeds": 3}
TASKS = {"full": "all labels", "100": "100 labels"}
STACK = Run("dbm_mnist", "training=stacked", SEEDS)
RBM = Run("rbm_mnist", "", SEEDS)
DBN = Run("dbn_mnist", "", SEEDS)
DBM = Run("dbm_mnist", "pretrained={source}", SEEDS, STACK)


def autoencoders() -> Target:
    """Sec. 3.6.4: a classifier that starts from a stack of autoencoders, or at random."""
    stack = Run("autoencoder_mnist", "training=stacked", SEEDS)
    title = "Three stacked denoising autoencoders, then a classifier"
    return _fine_tuned("maronas2016.pretraining", title, stack, "a stack", "")


def belief_network() -> Target:
    """Sec. 3.6.2 and 3.6.4."""
    title = "A deep belief network, then a classifier"
    return _fine_tuned("maronas2016.dbn", title, DBN, "a belief network", "net=dbn,")


def deep_machine() -> Target:
    """Sec. 3.6.1 and 3.6.4."""
    title = "A deep Boltzmann machine, then a classifier"
    return _fine_tuned("maronas2016.dbm", title, DBM, "a deep machine", "net=dbm,")


def likelihood() -> Target:
    """Sec. 3.6.1: the log-likelihood of an RBM by AIS."""
    title = "Log-likelihood of a restricted Boltzmann machine"
    row = Row("RBM", RBM, measure=Drawn("RBM"), metric="log_likelihood_nats")
    return Target("maronas2016.boltzmann", title, (row,))


def bound() -> Target:
    """Sec. 3.6.1: the bound of the log-likelihood of a DBM by AIS."""
    title = "A bound of the log-likelihood of a deep Boltzmann machine"
    row = Row("DBM, bound", DBM, measure=Drawn("DBM"), metric="log_likelihood_nats")
    return Target("maronas2016.deep_boltzmann", title, (row,))


def _fine_tuned(name: str, title: str, source: Run, words: str, net: str) -> Target:
    rows, claims = [], []
    for labels, task in TASKS.items():
        options = f"{net}labels={labels}"
        tuned = Run("mlp_mnist", f"{options},pretrained={{source}}", SEEDS, source)
        pair = (
            Row(f"from {words}, {task}", tuned),
            Row(f"random start, {task}", Run("mlp_mnist", options, SEEDS)),
        )
        rows += pair
        lower, higher = (row.label for row in pair)
        claims.append(Below(f"pre-training lowers the error, {task}", lower=lower, higher=higher))
    return Target(name, title, tuple(rows), tuple(claims))
