"""The figure of Boltzmann machines: its likelihood, and the runs that it refuses."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax import generative, models
from adv_jax.data.dataset import Arrays, Dataset
from adv_jax.generative import boltzmann
from adv_jax.runner.run.trained import Trained
from adv_jax.types import UserError
from papers.maronas2016 import boltzmann as figure
from papers.running import runs as shared


def small_machine(features=(4,)):
    """A trained machine of 3 x 3 pixels, whose images are all 0 or 1."""
    rng = np.random.default_rng(0)
    images = lambda count: rng.integers(0, 2, (count, 3, 3, 1)).astype(np.float32)
    parts = Arrays(images(50), np.zeros(50, np.int32)), Arrays(images(30), np.zeros(30, np.int32))
    dataset = Dataset("drawn", "drawn", {}, *parts, 2, (0.0, 1.0))
    model = generative.models.boltzmann(shape=(3, 3, 1), features=features)
    variables = models.init(model, jax.random.key(0), dataset.test.x)
    variables = jax.tree.map(lambda leaf: leaf + rng.normal(size=leaf.shape).astype("f"), variables)
    return Trained(lambda x: x, models.apply_fn(model), variables, "loss", dataset, {"seed": 1})


@pytest.mark.slow
@pytest.mark.parametrize("features", [(4,), (4, 3)])
def test_the_likelihood_of_a_small_machine_is_the_exact_one_within_its_error(features):
    model = small_machine(features)
    found = figure._likelihood(model)
    x = jnp.asarray(model.dataset.test.x)
    extras = model.apply(model.variables, x, key=jax.random.key(0), method="machines").extras
    (machine,), (even,) = extras["machines"], extras["data"]
    log_z = float(generative.measures.log_partition(machine))
    assert abs(found["log Z"] - log_z) < 4 * found["standard error"]
    free = float(jnp.mean(boltzmann.bound(machine, even)))
    assert found["log-likelihood"] == pytest.approx(-free - found["log Z"], abs=1e-3)


@pytest.mark.slow
def test_an_estimate_below_what_the_digits_add_up_to_is_refused(monkeypatch):
    def of_too_few_chains(*_, **__):
        return generative.measures.LogPartition(jnp.float32(-50.0), jnp.float32(0.1))

    monkeypatch.setattr(generative.measures, "annealed_log_partition", of_too_few_chains)
    message = (
        r"log Z of seed 1 must be at least \d+\.\d, which .* add up to, got -50\.0 by annealed"
    )
    with pytest.raises(UserError, match=message):
        figure._likelihood(small_machine())


@pytest.mark.slow
def test_each_digit_lies_above_its_reconstruction():
    model = small_machine()
    pictures = figure._pictures(model)
    pairs = pictures["digits and reconstructions"].reshape(-1, 2, 10, 3, 3)
    x = model.dataset.test.x
    np.testing.assert_array_equal(pairs[:, 0].reshape(30, 3, 3), x[..., 0])
    expected = model.apply(model.variables, x, method="reconstruct").logits
    np.testing.assert_allclose(pairs[:, 1].reshape(30, 3, 3), expected[..., 0], rtol=1e-6)
    assert len(pictures["filters"]) == 4 and len(pictures["samples"]) == 60


def test_a_document_has_the_likelihoods_of_all_seeds_of_machines_with_one(monkeypatch):
    def run_of(name, features, **more):
        model = {"name": name, "features": features, "visible": "binary", **more}
        config = {"experiment": "named", "model": model}
        replicas = [{"seed": seed, "epochs": 3, "test_loss": 60.0} for seed in (1, 2)]
        result = {"replicas": replicas, "data": {"name": "mnist", "source": "files"}}
        models = lambda: [SimpleNamespace(about={"seed": seed}) for seed in (1, 2)]
        data = "full MNIST"
        return SimpleNamespace(path=name, config=config, result=result, models=models, data=data)

    runs = {
        "rbm": run_of("boltzmann", (500,)),
        "nce": run_of("normalized_rbm", (500,)),
        "dbm": run_of("boltzmann", (500, 1000)),
        "stack": run_of("dbn", (500, 1000), doubled=True),
    }
    values = lambda model: {
        "log Z": 400.0,
        "standard error": 0.1,
        "log-likelihood": -90.0 - model.about["seed"],
    }
    monkeypatch.setattr(shared, "finished", lambda path, **_: runs[str(path)])
    ink = {"filters": 1.0, "digits and reconstructions": 0.2, "samples": 0.01}
    pictures = {name: np.full((9, 2, 2), value) for name, value in ink.items()}
    monkeypatch.setattr(figure, "_pictures", lambda model: pictures)
    monkeypatch.setattr(figure, "_likelihood", values)
    document = figure.machines(["rbm", "dbm", "stack", "nce"]).document
    kinds = ("RBM", "DBM", "RBM by NCE")
    assert document["by_seed"] == {kind: {1: -91, 2: -92} for kind in kinds}
    assert [one["machine"] for one in document["runs"]][2] == "greedy start of a DBM 500-1000"
    cited = "RBM 500: -91.0 +- 0.1 (log Z 400; Salakhutdinov & Murray 2008 have -86.34 after CD-25)"
    assert cited in document["caption"]
    assert "The samples of RBM 500 and DBM 500-1000 and" in document["caption"]  # They have no ink.


def test_a_run_without_a_machine_is_refused(monkeypatch):
    plain = SimpleNamespace(path="runs/plain", config={"model": {"name": "mlp"}}, result={})
    monkeypatch.setattr(shared, "finished", lambda path, **_: plain)
    monkeypatch.setattr(shared, "require_same_data", lambda runs: None)
    message = "workdir must be a run of boltzmann or normalized_rbm or dbn, got runs/plain"
    with pytest.raises(UserError, match=message):
        figure.machines(["runs/plain"])
