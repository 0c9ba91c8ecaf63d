"""Targets of nets that start from unsupervised models, and of Boltzmann machines.

[maronas2016], sec. 3.6, prints no numbers of them. The titles cite errors of other works:
[vincent2010], Table 3, and [salakhutdinov2009], sec. 4.1. From a random start [hinton2006science]
has 1.6 %. Log-likelihoods of other works are in `papers.maronas2016.boltzmann`.
"""

from papers.target import Below, Drawn, Row, Run, Target

SEEDS = {"replicas.seeds": 3}
ALL = "then a classifier; with all labels"
TASKS = {"full": "all labels", "100": "100 labels"}
STACK = Run("dbm_mnist", "training=stacked", SEEDS)
RBM = Run("rbm_mnist", "", SEEDS)
DBN = Run("dbn_mnist", "", SEEDS)
DBM = Run("dbm_mnist", "pretrained={source}", SEEDS, STACK)


def autoencoders() -> Target:
    """Sec. 3.6.4: a classifier that starts from a stack of autoencoders, or at random."""
    stack = Run("autoencoder_mnist", "training=stacked", SEEDS)
    title = f"Three stacked denoising autoencoders, {ALL}, Vincent 2010 has 1.28 %"
    return _fine_tuned("maronas2016.pretraining", title, stack, "a stack", "")


def belief_network() -> Target:
    """Sec. 3.6.2 and 3.6.4."""
    title = f"A deep belief network, {ALL}, Salakhutdinov & Hinton 2009 cite 1.2 %"
    return _fine_tuned("maronas2016.dbn", title, DBN, "a belief network", "net=dbn,")


def deep_machine() -> Target:
    """Sec. 3.6.1 and 3.6.4."""
    title = f"A deep Boltzmann machine, {ALL}, Salakhutdinov & Hinton 2009 have .95 %"
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
