"""Filters, reconstructions and samples of Boltzmann machines.  [maronas2016, sec. 3.6, Figs. 8, 9]

[maronas2016] draws the nets as diagrams; here are pictures of trained ones. Samples are means of
the visible units after 1,000 Gibbs steps from random units. The numbers of other works are those
that the configs rbm_mnist and dbm_mnist cite, [salakhutdinov2008] and [salakhutdinov2009].
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from adv_jax import generative
from adv_jax.generative import boltzmann
from adv_jax.generative.boltzmann import Machine, Side
from adv_jax.runner.run.trained import Trained
from adv_jax.style import canvas
from adv_jax.types import Array, Key, UserError
from papers.running.drawing import Drawing, mosaic, picture, rounded
from papers.running.runs import Finished, finished_runs, trained_on

# Machine -> the log-likelihood of another work in nats, or its bound, on the test set.
PRINTED = {
    "RBM 500": "Salakhutdinov & Murray 2008 have -86.34 after CD-25",
    "DBM 500-1000": "Salakhutdinov & Hinton 2009 have -84.62",
}
MODELS = ("boltzmann", "normalized_rbm", "dbn")
DIGITS, SAMPLES = "digits and reconstructions", "samples"  # panels
COLUMNS, SHOWN = 10, 60
CHAINS = 100
# More steps near 1, as [salakhutdinov2008] has them, and fewer of all.
BETAS = np.concatenate(
    [np.linspace(0, 0.5, 250, False), np.linspace(0.5, 0.9, 1000, False), np.linspace(0.9, 1, 2500)]
)


def machines(workdirs: Sequence[str]) -> Drawing:
    """Figs. 8, 9: filters, reconstructions and samples of RBMs, belief networks and deep machines.

    Args:
      workdirs: runs of rbm_mnist, nce_mnist, dbn_mnist and dbm_mnist; the first seed of each is
        drawn, and "by_seed" of the document has the log-likelihoods of all seeds.

    Raises:
      UserError: a run is unfinished, has a grid or no machine, the data differ, an estimate of
        log Z is known to be too low, or two runs with a likelihood are of one kind, as "by_seed"
        has its values by "RBM", "RBM by NCE" and "DBM".
    """
    runs = finished_runs(workdirs, models=MODELS)
    title = f"Filters, reconstructions and samples; {trained_on(runs, first=True)}"
    figure, rows = canvas(len(runs), 3, title=title, width=3.2, height=2.2)
    found, by_seed = [], {}
    for panels, run in zip(rows, runs, strict=True):
        models = run.models()
        model = models[0]
        pictures = _pictures(model)
        ink = {name: rounded(pictures[name].mean()) for name in (DIGITS, SAMPLES)}
        for axes, (name, images) in zip(panels, pictures.items(), strict=True):
            limit = np.quantile(np.abs(images), 0.99)
            low, high = (0, 1) if name in ink else (-limit, limit)
            of_ink = f", mean pixel {ink[name]:.2g}" if name in ink else ""
            above = f"{_named(run)}: {name}{of_ink}"
            picture(axes, mosaic(images, COLUMNS), above=above, low=low, high=high)
        loss = run.result["replicas"][0]["test_loss"]
        about = {"config": run.config["experiment"], "machine": _named(run), "reconstruction": loss}
        about["mean_pixel"] = ink
        if _has_likelihood(run):
            likelihoods = {one.about["seed"]: _likelihood(one) for one in models}
            about |= likelihoods[model.about["seed"]]
            kind = _kind(run)
            if kind in by_seed:
                raise UserError(f"workdir must be one run of each machine, got two of an {kind}")
            by_seed[kind] = {seed: one["log-likelihood"] for seed, one in likelihoods.items()}
        found.append(about)
    document = {
        "caption": _caption(found, runs),
        "settings": {
            "steps": 1000,
            "betas": len(BETAS),
            "chains": CHAINS,
            "chosen": ["nets", "steps", "betas", "chains"],
        },
        "runs": found,
        "by_seed": by_seed,
        "data": runs[0].result["data"],
    }
    return Drawing(figure, document)


def _pictures(model: Trained) -> dict[str, np.ndarray]:
    """Returns filters, test digits above their reconstructions, and samples: f[n, H, W]."""
    x = jnp.asarray(model.dataset.test.x[: SHOWN // 2])
    shape = x.shape[1:3]
    call = lambda like, method: np.asarray(
        model.apply(model.variables, like, key=jax.random.key(1), method=method).logits
    )
    kernel = np.asarray(model.variables["params"]["encoder"]["hidden1"]["kernel"])
    pairs = np.stack([np.asarray(x), call(x, "reconstruct")]).reshape(2, -1, COLUMNS, *shape)
    return {
        "filters": kernel.T[:SHOWN].reshape(-1, *shape),
        DIGITS: pairs.swapaxes(0, 1).reshape(-1, *shape),
        SAMPLES: call(jnp.tile(x, (2, 1, 1, 1)), "sample").reshape(-1, *shape),
    }


def _likelihood(model: Trained) -> dict[str, float]:
    """Returns log Z with its standard error, and the mean log-likelihood of binary test digits.

    Raises:
      UserError: log Z is below what the test digits alone add up to: the chains missed them.
    """
    key_data, key_chains = jax.random.split(jax.random.key(model.about["seed"]))
    x, pixels = (jnp.asarray(part.x) for part in (model.dataset.test, model.dataset.train))
    machine, even = _at(model, x, key_data)
    means = pixels.reshape(len(pixels), -1), *_at(model, pixels, key_data)[1][1:]
    settings = {
        "key": key_chains,
        "num_chains": CHAINS,
        "base_biases": tuple(map(_log_odds, means)),
    }
    estimate = jax.jit(generative.measures.annealed_log_partition, static_argnames="num_chains")
    log_z, error = estimate(machine, jnp.asarray(BETAS, jnp.float32), **settings)
    free = boltzmann.bound(machine, even)
    distinct = np.unique(np.asarray(even[0]), axis=0, return_index=True)[1]
    if not log_z >= (least := jax.nn.logsumexp(-free[distinct])):
        raise UserError(
            f"log Z of seed {model.about['seed']} must be at least {least:.1f}, which the test "
            f"digits add up to, got {log_z:.1f} by annealed importance sampling"
        )
    values = {"log Z": log_z, "standard error": error, "log-likelihood": -jnp.mean(free) - log_z}
    return {name: rounded(value) for name, value in values.items()}


def _at(model: Trained, x: Array, key: Key) -> tuple[Machine, Side]:
    """Returns the machine, and its even layers given images, whose pixels are drawn."""
    found = model.apply(model.variables, x, key=key, method="machines").extras
    return found["machines"][0], found["data"][0]


def _log_odds(states: Array) -> Array:
    """Returns the log-odds of the mean of each unit, with one more 0 and one more 1."""
    ones = jnp.sum(states, axis=0)
    return jnp.log(ones + 1) - jnp.log(len(states) - ones + 1)


def _has_likelihood(run: Finished) -> bool:
    return run.config["model"]["name"] != "dbn" and run.config["model"]["visible"] == "binary"


def _kind(run: Finished) -> str:
    model = run.config["model"]
    if model["name"] == "dbn":
        return "greedy start of a DBM" if model.get("doubled") else "DBN"
    if model["name"] == "normalized_rbm":
        return "RBM by NCE"
    return "RBM" if len(model["features"]) == 1 else "DBM"


def _named(run: Finished) -> str:
    return f"{_kind(run)} {'-'.join(map(str, run.config['model']['features']))}"


def _is_blank(mean_pixel: Mapping[str, float]) -> bool:
    """Returns whether samples have less than half of the ink of digits."""
    return mean_pixel[SAMPLES] < mean_pixel[DIGITS] / 2


def _caption(found: Sequence[dict], runs: Sequence[Finished]) -> str:
    losses = ", ".join(f"{one['machine']}: {one['reconstruction']:.4g}" for one in found)
    parts = [f"Cross-entropy of the reconstruction of a test digit in nats: {losses}"]
    estimates = [
        f"{one['machine']}: {one['log-likelihood']:.1f} +- {one['standard error']:.2g} "
        f"(log Z {one['log Z']:.5g}; {PRINTED.get(one['machine'], 'no number of another work')})"
        for one in found
        if "log Z" in one
    ]
    blank = [one["machine"] for one in found if _is_blank(one["mean_pixel"])]
    if blank:
        parts.append(
            f"The samples of {' and '.join(blank)} have less than half of the ink of digits: the "
            "training starts its chains at digits, and chains that start at random units, as here, "
            "end elsewhere"
        )
    if estimates:
        words = "Mean log-likelihood of digits drawn from the test pixels, of a DBM its bound"
        parts.append(f"{words}, by annealed importance sampling: {', '.join(estimates)}")
    return f"{'. '.join(parts)}; {trained_on(runs, first=True)}."
