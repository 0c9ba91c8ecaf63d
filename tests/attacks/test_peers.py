"""The attacks beside torchattacks and foolbox, on the same weights and the same 1,000 digits.

Needs the extra `oracle`. Robust accuracies may differ by half a point: the peers stop, start and
round in their own ways.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import BOUNDS, accuracy, digits, trained

from adv_jax import attacks, norms

torch = pytest.importorskip("torch", reason="needs the extra oracle")
foolbox = pytest.importorskip("foolbox", reason="needs the extra oracle")
torchattacks = pytest.importorskip("torchattacks", reason="needs the extra oracle")

pytestmark = pytest.mark.exhaustive
POINTS = 0.0055  # five of 1,000 digits
every_net = pytest.mark.parametrize("name", ["plain", "fgsm", "pgd"])
EPS = 0.1


def torch_net(name):
    """Returns the PyTorch version of a trained net, for images f[B, 1, 28, 28]."""
    params = trained(name).params
    layers = []
    for layer in ("hidden1", "logits"):
        weight, bias = (np.asarray(params[layer][part]) for part in ("kernel", "bias"))
        linear = torch.nn.Linear(*weight.shape)
        linear.weight.data = torch.tensor(weight.T.copy())
        linear.bias.data = torch.tensor(bias)
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(torch.nn.Flatten(), *layers[:-1]).eval().requires_grad_(False)


def images():
    x, y = digits()
    return torch.tensor(np.asarray(x)).reshape(-1, 1, 28, 28), torch.tensor(np.asarray(y)).long()


def theirs(name, attack):
    """Robust accuracy and adversarial digits f32[1000, 784] of `attack(net, x, y)`."""
    net, (x, y) = torch_net(name), images()
    x_adv = jnp.asarray(attack(net, x, y).detach().numpy()).reshape(len(y), -1)
    return accuracy(trained(name).logits_fn, x_adv, digits()[1]), x_adv


def ours(name, attack, **options):
    x, y = digits()
    net = trained(name).logits_fn
    x_adv = jax.jit(lambda: attack(net, x, y, bounds=BOUNDS, **options))()
    return accuracy(net, x_adv, y), x_adv


def foolbox_attack(attack, *, epsilons=EPS):
    def run(net, x, y):
        model = foolbox.PyTorchModel(net, bounds=BOUNDS, device="cpu")
        return attack(model, x, y, epsilons=epsilons)[1]

    return run


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@every_net
def test_torch_and_flax_nets_give_the_same_logits(name):
    net, (x, _) = torch_net(name), images()
    np.testing.assert_allclose(net(x).numpy(), trained(name).logits_fn(digits()[0]), atol=1e-4)


@every_net
@pytest.mark.parametrize("eps", [0.05, 0.1, 0.3])
def test_fgsm_agrees_with_torchattacks_and_foolbox(name, eps):
    robust, x_adv = ours(name, attacks.fgsm, eps=eps)
    for attack in (
        lambda net, x, y: torchattacks.FGSM(net, eps=eps)(x, y),
        foolbox_attack(foolbox.attacks.LinfFastGradientAttack(), epsilons=eps),
    ):
        robust_there, x_there = theirs(name, attack)
        assert abs(robust - robust_there) <= POINTS
        # For confident nets some gradients round to another sign in float32.
        assert float(jnp.mean(jnp.abs(x_adv - x_there) > 1e-6)) < 5e-3


@every_net
def test_pgd_in_linf_agrees_with_torchattacks_and_foolbox(name):
    robust, _ = ours(name, attacks.pgd, eps=EPS, step_size=0.01, num_steps=40)
    for attack in (
        lambda net, x, y: torchattacks.PGD(net, EPS, 0.01, 40, random_start=False)(x, y),
        foolbox_attack(foolbox.attacks.LinfPGD(abs_stepsize=0.01, steps=40, random_start=False)),
    ):
        assert abs(robust - theirs(name, attack)[0]) <= POINTS


@every_net
def test_pgd_in_l2_agrees_with_torchattacks_and_foolbox(name):
    robust, _ = ours(name, attacks.pgd, eps=1.5, step_size=0.1, num_steps=40, norm="l2")
    for attack in (
        lambda net, x, y: torchattacks.PGDL2(net, 1.5, 0.1, 40, random_start=False)(x, y),
        foolbox_attack(
            foolbox.attacks.L2PGD(abs_stepsize=0.1, steps=40, random_start=False), epsilons=1.5
        ),
    ):
        assert abs(robust - theirs(name, attack)[0]) <= POINTS


@every_net
def test_deepfool_agrees_with_foolbox(name):
    x, y = digits()
    _, x_adv = ours(name, attacks.deepfool, num_steps=50, overshoot=0.02)
    attack = foolbox.attacks.L2DeepFoolAttack(steps=50, candidates=10, overshoot=0.02)
    _, x_there = theirs(name, foolbox_attack(attack, epsilons=None))
    length, length_there = norms.norm(x_adv - x, 2), norms.norm(x_there - x, 2)
    for eps in (0.5, 1.0, 1.5, 2.0):
        robust = float(jnp.mean(length > eps))
        assert abs(robust - float(jnp.mean(length_there > eps))) <= POINTS
    assert accuracy(trained(name).logits_fn, x_adv, y) < POINTS


@every_net
def test_carlini_wagner_agrees_with_foolbox(name):
    options = {"search_steps": 5, "num_steps": 200, "learning_rate": 0.02}
    x, _ = digits()
    _, x_adv = ours(name, attacks.carlini_wagner, initial_const=0.1, **options)
    attack = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=5, steps=200, stepsize=0.02, initial_const=0.1
    )
    _, x_there = theirs(name, foolbox_attack(attack, epsilons=None))
    length, length_there = norms.norm(x_adv - x, 2), norms.norm(x_there - x, 2)
    for eps in (0.5, 1.0, 1.5, 2.0):
        robust = float(jnp.mean(length > eps))
        assert abs(robust - float(jnp.mean(length_there > eps))) <= POINTS


def lengths(name, measure, attack, there, **options):
    """The lengths f32[1000] of the perturbations of both sides, inf where they do not fool."""
    (x, y), net = digits(), trained(name).logits_fn
    _, x_adv = ours(name, attack, **options)
    _, x_there = theirs(name, foolbox_attack(there, epsilons=None))
    return [
        jnp.where(jnp.argmax(net(z), axis=1) != y, norms.norm(z - x, measure), jnp.inf)
        for z in (x_adv, x_there)
    ]


FMN = {
    "linf": (foolbox.attacks.LInfFMNAttack, (0.03, 0.06, 0.1)),
    "l2": (foolbox.attacks.L2FMNAttack, (0.5, 1.0, 1.5)),
    "l1": (foolbox.attacks.L1FMNAttack, (4.0, 8.0, 12.0)),
}


@every_net
@pytest.mark.parametrize("norm", FMN)
def test_fmn_is_as_strong_as_that_of_foolbox(name, norm):
    # foolbox 3.3.4 does not project onto the l2 ball, and under l1 it clips after the projection,
    # which leaves part of the ball unused: only under linf it is as strong.
    attack, sizes = FMN[norm]
    length, there = lengths(name, norm, attacks.fmn, attack(steps=100), norm=norm)
    for eps in sizes:
        robust, robust_there = (float(jnp.mean(found > eps)) for found in (length, there))
        assert robust <= robust_there + POINTS
        assert norm != "linf" or robust >= robust_there - POINTS


@every_net
def test_ddn_agrees_with_foolbox(name):
    length, there = lengths(name, "l2", attacks.ddn, foolbox.attacks.DDNAttack(steps=100))
    for eps in (0.5, 1.0, 1.5):
        assert abs(float(jnp.mean(length > eps) - jnp.mean(there > eps))) <= POINTS


@every_net
@pytest.mark.parametrize(("norm", "eps"), [("linf", EPS), ("l2", 1.5)])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_apgd_agrees_with_torchattacks(name, norm, eps, loss):
    # Both start at random, and one seed differs from another by half a point.
    def robust(seed):
        key = jax.random.key(seed)
        return ours(name, attacks.apgd, eps=eps, norm=norm, loss=loss, num_steps=50, key=key)[0]

    def robust_there(seed):
        there = {"norm": norm.capitalize(), "eps": eps, "steps": 50, "loss": loss, "seed": seed}
        return theirs(name, lambda net, x, y: torchattacks.APGD(net, **there)(x, y))[0]

    seeds = range(3)
    means = [np.mean([run(seed) for seed in seeds]) for run in (robust, robust_there)]
    assert abs(means[0] - means[1]) <= POINTS


@every_net
@pytest.mark.parametrize(("norm", "eps"), [("linf", EPS), ("l2", 1.5)])
@pytest.mark.parametrize("version", ["standard", "plus"])
def test_auto_attack_agrees_with_torchattacks(name, norm, eps, version):
    options = {"eps": eps, "norm": norm, "version": version}
    robust, _ = ours(name, attacks.auto_attack, **options, key=jax.random.key(0))
    there = {"norm": norm.capitalize(), "eps": eps, "n_classes": 10, "version": version}
    robust_there, _ = theirs(name, lambda net, x, y: torchattacks.AutoAttack(net, **there)(x, y))
    assert abs(robust - robust_there) <= POINTS


@every_net
@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_mi_fgsm_agrees_with_torchattacks(name, decay):
    options = {"eps": EPS, "decay": decay}
    robust, x_adv = ours(name, attacks.mi_fgsm, step_size=0.02, num_steps=10, **options)
    robust_there, x_there = theirs(
        name, lambda net, x, y: torchattacks.MIFGSM(net, alpha=0.02, steps=10, **options)(x, y)
    )
    assert abs(robust - robust_there) <= POINTS
    assert float(jnp.mean(jnp.abs(x_adv - x_there) > 1e-3)) < 0.01


@every_net
def test_ti_fgsm_agrees_with_torchattacks(name):
    # torchattacks smooths three channels; the net sees their mean.
    x, y = digits()
    colored = jnp.repeat(x.reshape(-1, 28, 28, 1), 3, axis=3)
    smooth = attacks.translation_invariance(
        lambda x: trained(name).logits_fn(x.mean(axis=3).reshape(len(x), -1))
    )
    run = partial(attacks.mi_fgsm, smooth, eps=EPS, step_size=0.02, num_steps=10, bounds=BOUNDS)
    x_adv = jax.jit(run)(colored, y)

    def smoothed(net, x, y):
        model = torch.nn.Sequential(Gray(), net)
        options = {"eps": EPS, "alpha": 0.02, "steps": 10, "decay": 1.0, "diversity_prob": 0.0}
        return torchattacks.TIFGSM(model, **options)(x.repeat(1, 3, 1, 1), y)[:, 0]

    _, x_there = theirs(name, smoothed)
    x_adv = x_adv[..., 0].reshape(len(y), -1)
    logits_fn = trained(name).logits_fn
    assert abs(accuracy(logits_fn, x_adv, y) - accuracy(logits_fn, x_there, y)) <= POINTS
    assert float(jnp.mean(jnp.abs(x_adv - x_there) > 1e-3)) < 0.02


class Gray(torch.nn.Module):
    def forward(self, x):
        return x.mean(dim=1, keepdim=True)


@pytest.mark.parametrize("name", ["plain", "pgd"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_hop_skip_jump_agrees_with_foolbox(name, norm):
    x, y = (rows[:300] for rows in digits())
    other = jnp.argmax(y != y[0])
    start = jnp.where((y != y[0])[:, None], x[:1], x[other][None])
    run = partial(attacks.hop_skip_jump, trained(name).logits_fn, norm=norm, num_steps=8)
    x_adv = jax.jit(partial(run, bounds=BOUNDS, key=jax.random.key(0)))(x, y, start=start - x)
    assert accuracy(trained(name).logits_fn, x_adv, y) == 0

    there = foolbox.attacks.HopSkipJumpAttack(steps=8, constraint=norm)
    model = foolbox.PyTorchModel(torch_net(name), bounds=BOUNDS, device="cpu")
    images_there, labels, points = (
        torch.tensor(np.asarray(rows)) for rows in (x.reshape(-1, 1, 28, 28), y, start)
    )
    points = points.reshape(images_there.shape)
    _, x_there, _ = there(model, images_there, labels.long(), epsilons=None, starting_points=points)
    x_there = jnp.asarray(x_there.numpy()).reshape(x.shape)
    length, length_there = (np.asarray(norms.norm(z - x, norm)) for z in (x_adv, x_there))
    right = np.asarray(jnp.argmax(trained(name).logits_fn(x), axis=1) == y)
    # Both draw random directions. Under l2 foolbox divides them by their norm over the batch, so
    # that its jumps are short and its perturbations longer.
    ratio = length[right] / length_there[right]
    print(name, norm, *np.quantile(ratio, [0.05, 0.25, 0.5, 0.75, 0.95]).round(3))
    assert np.median(ratio) < 1.05 and np.mean(ratio < 1.2) > 0.9


def test_boundary_agrees_with_foolbox():
    x, y = (rows[:50] for rows in digits())
    other = jnp.argmax(y != y[0])
    start = jnp.where((y != y[0])[:, None], x[:1], x[other][None])
    net = trained("plain").logits_fn
    run = partial(attacks.boundary, net, num_steps=2000, bounds=BOUNDS, key=jax.random.key(0))
    x_adv = jax.jit(run)(x, y, start=start - x)
    there = foolbox.attacks.BoundaryAttack(steps=2000)
    model = foolbox.PyTorchModel(torch_net("plain"), bounds=BOUNDS, device="cpu")
    images_there, labels, points = (
        torch.tensor(np.asarray(rows)) for rows in (x.reshape(-1, 1, 28, 28), y, start)
    )
    points = points.reshape(images_there.shape)
    _, x_there, _ = there(model, images_there, labels.long(), epsilons=None, starting_points=points)
    x_there = jnp.asarray(x_there.numpy()).reshape(x.shape)
    length, length_there = (np.asarray(norms.norm(z - x, 2)) for z in (x_adv, x_there))
    right = np.asarray(jnp.argmax(net(x), axis=1) == y)
    ratio = length[right] / length_there[right]
    print(*np.quantile(ratio, [0.05, 0.25, 0.5, 0.75, 0.95]).round(3))
    assert np.median(ratio) < 1.05
