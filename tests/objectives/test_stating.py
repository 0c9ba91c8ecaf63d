"""All objectives refuse wrong arguments in one line, before they call anything."""

import contextlib
import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adv_jax import attacks, generative, models, objectives
from adv_jax.step import init_state, make_step, over_steps
from adv_jax.types import Output, UserError

W = jnp.array([[1.0, -1.0], [0.5, 2.0]])
BATCH = {"x": jnp.array([[1.0, 2.0]]), "y": jnp.array([1])}


def linear(w, x, *, train=False, key=None):
    return Output(x @ w, {}, {})


def takers(keyword):
    functions = {name: getattr(objectives, name) for name in objectives.__all__}
    return [f for f in functions.values() if keyword in inspect.signature(f).parameters]


def call(function, **given):
    function(linear, {}, {}, key=jax.random.key(0), **given)


def test_an_attack_without_random_numbers_needs_no_key():
    apply = lambda variables, x, **_: Output(x @ variables["params"], {}, {})
    batch, key = {"x": jnp.eye(3), "y": jnp.arange(3)}, jax.random.key(0)
    moved = partial(objectives.lwa, attack=lambda logits_fn, x, y: x + 1.0)
    loss, _ = moved(apply, {"params": jnp.eye(3)}, batch, key=key)
    plain, _ = objectives.cross_entropy(
        apply, {"params": jnp.eye(3)}, batch | {"x": jnp.eye(3) + 1.0}, key=key
    )
    np.testing.assert_allclose(loss, plain, rtol=1e-6)


def test_a_missing_attack_is_named_as_attacks_name_what_they_lack():
    batch = {"x": jnp.ones((2, 3)), "y": jnp.array([0, 1])}
    apply = lambda variables, x, **_: Output(x @ variables["params"], {}, {})
    says = (
        "^lwa must get attack, got none: pass it, or bind it by functools.partial.lwa, attack=..."
    )
    with pytest.raises(UserError, match=says):
        objectives.lwa(apply, {"params": jnp.eye(3)}, batch, key=jax.random.key(0))


@pytest.mark.parametrize("function", takers("attack"), ids=lambda f: f.__name__)
def test_an_attack_that_is_no_function_is_refused(function):
    with pytest.raises(UserError, match="^attack must be a function such as pgd, got 'fgsm'$"):
        call(function, attack="fgsm")
    if function is not objectives.ladder:  # Without an attack it trains on clean inputs.
        with pytest.raises(UserError, match="^attack must be a function such as pgd, got None$"):
            call(function, attack=None)


# The ladder needs a model of its own.
@pytest.mark.parametrize(
    "function",
    [f for f in takers("attack") if f is not objectives.ladder],
    ids=lambda f: f.__name__,
)
def test_an_attack_of_another_shape_is_refused(function):
    given = {"attack": lambda logits_fn, x, y, *, key: x[:1]}
    given |= {"layer": 1} if function is objectives.lwa_rep else {}
    given |= {"objective": objectives.trades} if function is objectives.awp else {}
    x = jnp.ones((2, 2))
    batch = {"x": x, "y": jnp.array([0, 1]), "second": x, "unlabeled": x}
    net = models.mlp(features=(4,), num_classes=2)
    apply = models.apply_fn(net)
    variables = net.init(jax.random.key(0), batch["x"])
    with pytest.raises(UserError, match="^attack must return an array of the shape of x, float32"):
        function(apply, variables, batch, key=jax.random.key(0), **given)


def test_labels_outside_the_classes_are_named_as_the_batch_names_them():
    for function in (objectives.cross_entropy, objectives.label_smoothing):
        with pytest.raises(UserError, match="^y must be classes from 0 to 1, got 7$"):
            function(linear, W, BATCH | {"y": jnp.array([7])}, key=None)


def test_an_attack_without_its_size_is_refused_with_the_way_to_bind_it():
    mix = partial(objectives.adversarial_mix, linear, W, BATCH, key=jax.random.key(0))
    said = r"^pgd must get eps, got none: .* by functools.partial\(pgd, eps=...\)$"
    for attack in (attacks.pgd, partial(attacks.pgd, num_steps=2)):
        with pytest.raises(UserError, match=said):
            mix(attack=attack)
    with pytest.raises(UserError, match="^pgd must get keywords of its own, got 'epsilon'; did"):
        mix(attack=partial(attacks.pgd, epsilon=0.1))
    assert jnp.isfinite(mix(attack=partial(attacks.pgd, eps=0.1))[0])


def test_a_single_batch_for_several_steps_is_refused():
    step = make_step(partial(objectives.cross_entropy, linear), optax.sgd(0.1))
    state = init_state({"params": W}, optax.sgd(0.1), seed=0)
    with pytest.raises(UserError, match=r"^batch must have rows of y \(step.over_steps .*, got "):
        over_steps(step)(state, {"x": jnp.ones((3, 2)), "y": jnp.zeros(3, int)})


def test_other_functions_are_checked_too():
    with pytest.raises(UserError, match="^unlabeled_attack must be a function such as pgd, got 3$"):
        call(objectives.ladder, attack=None, unlabeled_attack=3, weights=(1.0,))
    with pytest.raises(UserError, match="^objective must be a function such as lwa, got 'lwa'$"):
        call(objectives.awp, attack=print, objective="lwa")
    with pytest.raises(UserError, match="^teacher_fn must be a function of x alone, got a MLP: "):
        call(objectives.distillation, teacher_fn=models.mlp(), temperature=2.0)


def test_an_unknown_keyword_is_refused_with_the_nearest_one():
    with pytest.raises(UserError, match=r"got 'regularization'; did you mean 'beta'\?$"):
        call(objectives.trades, attack=print, regularization=6.0)


@pytest.mark.parametrize(
    ("function", "name", "value", "allowed"),
    [
        (objectives.trades, "beta", -1.0, "a finite number of at least 0"),
        (objectives.mart, "beta", float("nan"), "a finite number of at least 0"),
        (objectives.adversarial_mix, "alpha", 2.0, "a number from 0 to 1"),
        (objectives.certified, "kappa", 2.0, "a number from 0 to 1"),
        (objectives.consistency, "temperature", 0.0, "a finite number above 0"),
        (objectives.trades, "beta", "6", "a finite number of at least 0"),
        (objectives.trades, "beta", None, "a finite number of at least 0"),
    ],
)
def test_a_number_outside_its_range_is_refused(function, name, value, allowed):
    attack = {"attack": print} if function in takers("attack") else {}
    with pytest.raises(UserError) as error:
        call(function, **attack, **{name: value})
    assert str(error.value) == f"{name} must be {allowed}, got {value!r}"


def test_each_number_of_a_tuple_has_the_range():
    with pytest.raises(UserError, match="^weights must be a finite number of at least 0, got -1"):
        call(objectives.ladder, weights=(1.0, -1.0))


@pytest.mark.parametrize(
    ("function", "given", "message"),
    [
        (objectives.ladder, {"draw": "new"}, "draw must be one of fresh, same, got 'new'"),
        (generative.objectives.gan, {"generator_loss": "wgan"}, "must be one of non_saturating, "),
        (generative.objectives.lapgan, {"generator_loss": None}, "generator_loss must be one of "),
    ],
)
def test_an_unknown_name_is_refused(function, given, message):
    with pytest.raises(UserError, match=message):
        call(function, **given)


def test_an_unknown_method_of_bounds_is_refused():
    with pytest.raises(UserError, match="^method must be one of ibp, crown_ibp, crown, got 'pgd'$"):
        objectives.certified(linear, W, BATCH, key=None, eps=0.1, method="pgd")


@pytest.mark.parametrize("part", ["x", "y"])
def test_a_batch_without_a_part_is_refused(part):
    rest = {name: value for name, value in BATCH.items() if name != part}
    with pytest.raises(UserError, match=f"^batch must have {part}, got {'xy'.replace(part, '')}$"):
        objectives.lwa(linear, W, rest, key=jax.random.key(0), attack=lambda f, x, y, *, key: x)


def test_a_batch_that_is_no_dict_is_refused():
    allowed = "a dict of arrays such as {'x': x, 'y': y}"
    with pytest.raises(
        UserError, match=rf"^batch must be {allowed}, got \(float32\[1, 2\], int32\["
    ):
        objectives.cross_entropy(linear, W, (BATCH["x"], BATCH["y"]), key=None)


def test_a_batch_without_rows_is_refused():
    none = {name: value[:0] for name, value in BATCH.items()}
    with pytest.raises(
        UserError, match=r"^batch must have at least one row, got x float32\[0, 2\]$"
    ):
        objectives.cross_entropy(linear, W, none, key=None)


@pytest.mark.parametrize(
    ("function", "change", "message"),
    [
        (objectives.lwa, {"x": [[1.0, 2.0]]}, r"^batch must have arrays, got x \[\[1.0, 2.0\]\]$"),
        (
            objectives.trades,
            {"y": jnp.zeros(3, int)},
            r"^y must have the 1 rows of x, got int32\[3\]$",
        ),
        (
            objectives.virtual_adversarial_training,
            {"unlabeled": jnp.ones((4, 3))},
            r"^unlabeled must be inputs of the shape \[2\], as x, got float32\[4, 3\]$",
        ),
        (
            objectives.virtual_adversarial_training,
            {"unlabeled": jnp.ones((0, 2))},
            r"^batch must have at least one row, got unlabeled float32\[0, 2\]$",
        ),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(function, change, message):
    attack = {"attack": print} if function in takers("attack") else {}
    with pytest.raises(UserError, match=message):
        function(linear, W, BATCH | change, key=jax.random.key(0), **attack)


def test_parts_that_an_objective_does_not_read_and_lists_of_labels_are_taken():
    batch = BATCH | {"y": [1], "unlabeled": None}
    loss = partial(objectives.cross_entropy, linear, W, key=None)
    expected = float(loss(BATCH)[0])
    assert float(loss(batch)[0]) == expected == float(loss(batch=batch)[0])
    with pytest.raises(
        UserError, match=r"^batch must have at least one row, got x float32\[0, 2\]$"
    ):
        loss(batch={"x": jnp.ones((0, 2)), "y": jnp.ones(0, int)})


@pytest.mark.parametrize(("predicts", "refused"), [(("labels",), True), (("loss",), False)])
def test_as_many_labels_as_inputs_are_needed_where_they_are_predicted(predicts, refused):
    @objectives.objective(predicts=predicts)
    def pairs(apply, variables, batch, *, key):
        return batch["x"].sum(), ({}, {})

    message = contextlib.nullcontext()
    if refused:
        message = pytest.raises(UserError, match=r"^y must have the 1 rows of x, got int32\[3\]$")
    with message:
        pairs(linear, W, BATCH | {"y": jnp.zeros(3, int)}, key=None)


def test_what_is_no_key_is_refused():
    identity = lambda f, x, y, *, key: x
    for key in (None, 0, jax.random.split(jax.random.key(0))):
        with pytest.raises(UserError, match="^key must be one key of jax.random, got "):
            objectives.lwa(linear, W, BATCH, key=key, attack=identity)
    with pytest.raises(UserError, match="^key must be one key of jax.random, got 0$"):
        objectives.cross_entropy(linear, W, BATCH, key=0)
    net, x = models.mlp(features=(3,), dropout=(0.5, 0.5)), BATCH["x"]
    apply, variables = models.apply_fn(net), models.init(net, jax.random.key(0), x)
    with pytest.raises(UserError, match="^key must be one key of jax.random, got None$"):
        objectives.cross_entropy(apply, variables, BATCH, key=None)
    loss, _ = objectives.cross_entropy(linear, W, BATCH, key=None)  # It draws nothing.
    assert np.isfinite(loss)


@pytest.mark.parametrize(
    "towards",
    [
        partial(attacks.pgd, eps=0.1, targeted=True),
        partial(attacks.pgd, eps=0.1, targeted=np.True_),
        partial(attacks.jsma, gamma=0.5, bounds=(0.0, 1.0), targeted=True),
        partial(attacks.transferred, eps=0.1, attack=partial(attacks.fgsm, targeted=True)),
        partial(lambda logits_fn, x, y, **settings: x, targeted=True),
        partial(lambda logits_fn, x, y, *, attack, targeted=False: x, attack=0, targeted=True),
    ],
)
def test_an_attack_towards_the_true_labels_is_refused(towards):
    with pytest.raises(UserError, match="^attack must be an attack away from .* targeted=True$"):
        objectives.trades(linear, W, BATCH, key=jax.random.key(0), attack=towards)
    with pytest.raises(UserError, match="^unlabeled_attack must be an attack away from "):
        call(objectives.ladder, attack=None, unlabeled_attack=towards, weights=(1.0,))


def test_variables_without_the_state_of_an_objective_are_refused():
    key, variables = jax.random.key(0), {"params": W}
    made = r"perturbation, which free.state\(apply, variables, x\) makes"
    with pytest.raises(UserError, match=f"^variables must have {made}, got params$"):
        objectives.free(linear, variables, BATCH, key=key, eps=0.1)
    machine = generative.models.boltzmann(shape=(2, 1, 1), features=(2,))
    apply, variables = models.apply_fn(machine), machine.init(key, BATCH["x"].reshape(1, 2, 1, 1))
    persistent = generative.objectives.persistent_contrastive_divergence
    with pytest.raises(UserError, match=r"^variables must have chains, which persistent_.*\.state"):
        persistent(apply, variables, {"x": BATCH["x"].reshape(1, 2, 1, 1)}, key=key)


def test_a_model_that_returns_logits_alone_is_refused():
    bare = lambda w, x, *, train=False, key=None: x @ w
    three = {"x": jnp.ones((3, 2)), "y": jnp.zeros(3, int)}  # as many rows as an Output has entries
    allowed = r"an adv_jax.types.Output, as models.apply_fn\(model\) does"
    with pytest.raises(UserError, match=rf"^apply must return {allowed}, got float32\[3, 2\]$"):
        objectives.cross_entropy(bare, W, three, key=None)
    with pytest.raises(UserError, match=f"^apply must be a function that returns {allowed}, got "):
        objectives.cross_entropy(models.lenet(), W, three, key=None)


@pytest.mark.parametrize(
    "function", [objectives.cross_entropy, generative.objectives.gan, generative.objectives.vae]
)
def test_a_model_that_is_no_function_is_refused(function):
    bound = models.mlp().apply
    for apply in (models.mlp(), bound, partial(bound), jax.jit(bound), None):
        with pytest.raises(UserError, match="^apply must be a function that returns an adv_jax"):
            function(apply, W, BATCH, key=jax.random.key(0))


def test_a_model_of_other_keywords_is_refused_by_its_parameters():
    bare = lambda v, x: linear(v, x)
    allowed = r"a function of \(variables, x, \*, train, key\), got one of \(v, x\)"
    with pytest.raises(UserError, match=f"^apply must be {allowed}$"):
        objectives.cross_entropy(bare, W, BATCH, key=jax.random.key(0))
    wrong = lambda v, x, **options: x + 1 + "1"
    with pytest.raises(TypeError, match="unsupported operand|not a valid JAX|got an incompatible"):
        objectives.cross_entropy(wrong, W, BATCH, key=jax.random.key(0))


def test_a_traced_number_has_no_known_value():
    def loss(beta):
        found = objectives.label_smoothing(linear, W, BATCH, key=None, smoothing=beta)
        return found[0]

    np.testing.assert_allclose(jax.jit(loss)(0.3), loss(0.3), rtol=1e-6)


def test_an_objective_of_ones_own_may_take_any_keyword():
    @objectives.objective()
    def own(apply, variables, batch, *, key, **settings):
        return settings

    assert own(linear, {}, {}, key=None, attack=print, weight=2) == {"attack": print, "weight": 2}
    with pytest.raises(UserError, match="^attack must be a function"):
        own(linear, {}, {}, key=None, attack="fgsm")


@pytest.mark.parametrize(
    "function", [lambda batch, *, key: batch, lambda apply, variables, batch: batch]
)
def test_a_function_of_other_arguments_is_no_objective(function):
    allowed = (
        r"^an objective must take \(apply, variables, batch, \*, key\), got <lambda>, which takes"
    )
    with pytest.raises(UserError, match=allowed):
        objectives.objective()(function)


def test_variables_of_another_form_are_passed_on_also_by_name():
    def linear(apply, variables, batch, *, key):
        output = apply(variables=variables, x=batch["x"], train=True, key=key)
        return output.logits.sum(), ({}, {})

    def apply(variables, x, *, train, key):
        return Output(x @ variables["w"], {}, {})

    variables, batch = {"w": jnp.ones((2, 3))}, {"x": jnp.ones((4, 2))}
    loss, _ = objectives.objective()(linear)(apply, variables, batch, key=jax.random.key(0))
    assert loss == 24
