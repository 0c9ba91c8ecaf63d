"""Targets of nets that start from unsupervised models, and of Boltzmann machines.

[maronas2016], sec. 3.6, prints no numbers of them. Claims and titles cite those of other works:
[vincent2010], Table 3, [hinton2006], sec. 6, [salakhutdinov2009], sec. 4.1, and
[salakhutdinov2008]. From a random start [hinton2006science] has 1.6 %.
"""

from papers.maronas2016.boltzmann import PRINTED
from papers.running.target import Claim, Drawn, Row, Run, Target

SEEDS = {"replicas.seeds": 3}
TASKS = {"full": "all labels", "100": "100 labels"}
STACK = Run("dbm_mnist", "training=stacked", SEEDS)
RBM = Run("rbm_mnist", "", SEEDS)
NCE = Run("nce_mnist", "", SEEDS)
DBN = Run("dbn_mnist", "", SEEDS)
DBM = Run("dbm_mnist", "pretrained={source}", SEEDS, STACK)


def autoencoders() -> Target:
    """Sec. 3.6.4: a classifier that starts from a stack of autoencoders, or at random."""
    stack = Run("autoencoder_mnist", "training=stacked", SEEDS)
    title = "Three stacked denoising autoencoders, then a classifier"
    cited = "Vincent 2010 has 1.28 %"
    return _fine_tuned("maronas2016.pretraining", title, stack, "a stack", "", cited)


def belief_network() -> Target:
    """Sec. 3.6.2 and 3.6.4."""
    title = "A deep belief network, then a classifier"
    cited = "Hinton 2006 has 1.25 %, Salakhutdinov & Hinton 2009 cite 1.2 %"
    return _fine_tuned("maronas2016.dbn", title, DBN, "a belief network", "net=dbn,", cited)


def deep_machine() -> Target:
    """Sec. 3.6.1 and 3.6.4."""
    title = "A deep Boltzmann machine, then a classifier"
    cited = "Salakhutdinov & Hinton 2009 have .95 %"
    return _fine_tuned("maronas2016.dbm", title, DBM, "a deep machine", "net=dbm,", cited)


def likelihood() -> Target:
    """Sec. 3.6.1: the log-likelihood of an RBM by AIS."""
    title = f"Log-likelihood of a restricted Boltzmann machine; {PRINTED['RBM 500']}"
    row = Row("RBM", RBM, measure=Drawn("RBM"), metric="log_likelihood_nats")
    return Target("maronas2016.boltzmann", title, (row,))


def from_data() -> Target:
    """Sec. 3.6.1: the log-likelihood of an RBM whose chains start at the data."""
    run = Run("rbm_mnist", "chains=data", SEEDS)
    row = Row("RBM, CD-1", run, measure=Drawn("RBM"), metric="log_likelihood_nats")
    title = "Log-likelihood of a restricted Boltzmann machine after contrastive divergence"
    return Target("maronas2016.contrastive_divergence", title, (row,))


def noise_contrastive() -> Target:
    """Sec. 3.6.1: the log-likelihood of an RBM that noise-contrastive estimation trains, by AIS."""
    title = "Log-likelihood of a restricted Boltzmann machine by noise-contrastive estimation"
    row = Row("RBM by NCE", NCE, measure=Drawn("RBM by NCE"), metric="log_likelihood_nats")
    return Target("maronas2016.noise_contrastive", title, (row,))


def bound() -> Target:
    """Sec. 3.6.1: the bound of the log-likelihood of a DBM by AIS."""
    title = f"A bound of the log-likelihood of a deep machine; {PRINTED['DBM 500-1000']}"
    row = Row("DBM, bound", DBM, measure=Drawn("DBM"), metric="log_likelihood_nats")
    return Target("maronas2016.deep_boltzmann", title, (row,))


def _fine_tuned(name: str, title: str, source: Run, words: str, net: str, cited: str) -> Target:
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
        text = f"starting from {words} lowers the error, {task}"
        if labels == "full":
            text += f"; {cited}"
        claims.append(Claim(text, "gain", (lower, higher)))
    return Target(name, title, tuple(rows), tuple(claims))
