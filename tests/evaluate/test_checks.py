"""`evaluate` refuses bad arguments in one line, before it calls the model."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adv_jax import attacks, evaluate
from adv_jax.types import UserError

FEATURES, CLASSES = 6, 4
FGSM = {"sign": partial(attacks.fgsm, norm="linf"), "direction": partial(attacks.fgsm, norm="l2")}


def giving(answer):
    """Returns an attack with the result answer(x)."""

    def attack(logits_fn, x, y, *, eps, key=None):
        return answer(x)

    return attack


X = np.linspace(0, 1, 5 * FEATURES, dtype=np.float32).reshape(5, FEATURES)
holed = np.where(np.arange(5 * FEATURES).reshape(5, -1) == 7, np.nan, X)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attacks": {}}, "attacks must have one or more entries, got none"),
        ({"eps": []}, "eps must be one or more numbers of at least 0, got ()"),
        ({"eps": [0.1, -0.2]}, "eps must be a finite number of at least 0, got -0.2"),
        ({"eps": [0.1, float("nan")]}, "eps must be a finite number of at least 0, got nan"),
        ({"eps": [float("inf")]}, "eps must be a finite number of at least 0, got inf"),
        (
            {"eps": [0.1, 1.5], "bounds": (0, 1)},
            "eps of sign must be at most 1, the linf width of the bounds (0, 1), got 1.5",
        ),
        (
            {"eps": [2.5], "bounds": (0, 1), "attacks": {"far": partial(attacks.fgsm, norm=2)}},
            "eps of far must be at most 2.44949, the l2 width of the bounds (0, 1), got 2.5",
        ),
        (
            {"eps": [0.5, 2], "attacks": {"few": partial(attacks.jsma, theta=0.1)}},
            "eps of few must be a number from 0 to 1, got 2",
        ),
        ({"y": np.zeros(4, np.int32)}, "y must be classes i32[N] with N = 5, got int32[4]"),
        (
            {"y": np.zeros((5, CLASSES), np.float32)},
            "y must be classes i32[N] with N = 5, got float32[5, 4]",
        ),
        ({"y": np.zeros(5, np.float32)}, "y must be classes i32[N] with N = 5, got float32[5]"),
        (
            {"y": [0, 1, 2, 3, 4]},
            "y must be classes from 0 to 3, got 4",
        ),
        ({"y": [0, 1, -1, 2, 3]}, "y must be classes from 0 to 3, got -1"),
        (
            {"x": X[:0], "y": []},
            "x must be a batch f32[B, *D] of floats with B and all of D at least 1, got floa",
        ),
        (
            {"x": np.zeros((5, 6), np.int32)},
            "x must be a batch f32[B, *D] of floats, got int32[5, 6]",
        ),
        ({"x": holed}, "x must be finite numbers, got nan"),
        (
            {"bounds": (0, 0.5)},
            "x must be within the bounds (0, 0.5), got ",
        ),
        (
            {"bounds": (1, 0)},
            "bounds must be (lo, hi) with lo < hi, got (1, 0)",
        ),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number of at least 1, got 2.5"),
        ({"batch_size": "3"}, "batch_size must be a whole number of at least 1, got '3'"),
        ({"eps": 0.1}, "eps must be a sequence of numbers such as [0, 0.1], got 0.1"),
        ({"eps": ".1"}, "eps must be a sequence of numbers such as [0, 0.1], got '.1'"),
        ({"eps": [".1"]}, "eps must be a sequence of numbers such as [0, 0.1], got ['.1']"),
        ({"eps": [True]}, "eps must be a sequence of numbers such as [0, 0.1], got [True]"),
        ({"eps": [[0.1]]}, "eps must be a sequence of numbers such as [0, 0.1], got [[0.1]]"),
        ({"eps": [1e39]}, "eps must be a finite float32, got 1e+39"),
        ({"eps": [0.1, 0.0, 0.1]}, "eps must not repeat, got 0.1 twice or more"),
        (
            {"attacks": [attacks.fgsm]},
            "attacks must be a dict that gives each a name, got a list",
        ),
        (
            {"attacks": {1: attacks.fgsm}},
            "attacks must be a dict that gives each a name, a text, got the name 1",
        ),
        (
            {"attacks": {"": attacks.fgsm}},
            "attacks must be a dict that gives each a name, a text, got the name ''",
        ),
        (
            {"attacks": {"f": "fgsm"}},
            "f must be a function such as attacks.fgsm, got 'fgsm'",
        ),
        (
            {"attacks": {"f": partial(attacks.transferred, attack="fgsm")}},
            "f must be a function such as attacks.fgsm, got 'fgsm'",
        ),
        (
            {"attacks": {"f": giving(lambda x: None)}},
            "attack must return an array of the shape of x, float32[",
        ),
        (
            {"attacks": {"f": giving(lambda x: x[:, :1])}},
            "attack must return an array of the shape of x, ",
        ),
        (
            {"attacks": {"f": giving(lambda x: x.astype(jnp.float16))}},
            "attack must return an array of the dtype of x, float32[",
        ),
        (
            {"attacks": {"f": giving(lambda x: jnp.where(x == x[:1], jnp.inf, x))}},
            "f must return finite inputs, got NaN or infinity for",
        ),
        (
            {"attacks": {"f": giving(lambda x: np.asarray(x))}},
            "attack and logits_fn must be made of jax.numpy operations",
        ),
        ({"logits_fn": "net"}, "logits_fn must be a function of x alone, got a str: pass lambda x"),
        (
            {"logits_fn": lambda x: jnp.asarray(np.tanh(np.asarray(x)))},
            "logits_fn must be made of jax.numpy operations, got some that ask",
        ),
        ({"bounds": (0, None)}, "bounds must be (lo, hi) with lo < hi, got (0, None)"),
        ({"bounds": ("0", "1")}, "bounds must be (lo, hi) with lo < hi, got ('0', '1')"),
        ({"x": "abc"}, "x must be a batch f32[B, *D] of floats, got 'abc'"),
        (
            {"x": [[1.0], [1.0, 2.0]]},
            "x must be a batch f32[B, *D] of floats, got [[1.0], [1.0, 2.0]]",
        ),
        ({"y": ["a", "b"]}, "y must be classes i32[N] with N = 5, got ['a', 'b']"),
        (
            {"attacks": {"a": partial(attacks.fgsm, eps=0.1)}},
            "fgsm must leave eps to the evaluation, got it bound already",
        ),
        (
            {"attacks": {"a": lambda logits_fn, x, y, *, key=None: x}},
            "a must have a keyword for its size (eps, std, tau, gamma), got ",
        ),
        (
            {"attacks": {"mine": lambda logits_fn, x, y, *, eps, key=None: float(x[0, 0]) + x}},
            "mine and logits_fn must be made of jax.numpy operations",
        ),
        (
            {"attacks": {"mine": lambda logits_fn, x, y, *, eps, key=None: x[:1]}},
            "mine must return an array of the shape of x, ",
        ),
        (
            {"attacks": {"a": partial(attacks.fgsm, targeted=np.True_)}},
            "a must be an attack with targeted=False, as y are its labels (or a function that "
            "chooses its own classes), got targeted=True",
        ),
        (
            {
                "attacks": {
                    "a": partial(
                        attacks.transferred,
                        source_fn=lambda x: x[:, :CLASSES],
                        attack=partial(attacks.fgsm, targeted=True),
                    )
                }
            },
            "a must be an attack with targeted=False",
        ),
        (
            {"attacks": {"a": partial(attacks.fgsm, norm="l7")}},
            'a: norm must be "linf" ("inf", jnp.inf), "l2" (2), "l1" (1), "rms" or "l0", got ',
        ),
        (
            {"logits_fn": lambda x: jax.nn.softmax(x)},
            "logits_fn must return logits, the values before the softmax or the jnp.log of it, got "
            "rows >= 0 that sum to 1, which look like probabilities",
        ),
        (
            {"logits_fn": lambda x: x[:, 0]},
            "logits_fn must return logits f32[B, K] with B = 5, got float32[5]",
        ),
        (
            {"logits_fn": lambda x: (x, {})},
            "logits_fn must return logits f32[B, K] with B = 5, got a tuple",
        ),
        (
            {"logits_fn": lambda x: jnp.where(x > 0.9, jnp.nan, x)},
            "logits_fn must return finite logits, got NaN or infinity for 1 of 5 rows of x",
        ),
        (
            # Only where the attack leads: no clean entry is below 0.
            {"logits_fn": lambda x: jnp.where(x < 0, jnp.nan, 30 * x)},
            "logits_fn must return finite logits, got NaN or infinity for 1 of 5 rows of x under "
            "sign",
        ),
    ],
)
def test_evaluate_refuses_bad_arguments_in_one_line(change, message):
    arguments = {"logits_fn": lambda x: x[:, :CLASSES], "x": X, "y": np.zeros(5, np.int32)}
    arguments |= {"attacks": FGSM, "eps": [0.1], **change}
    with pytest.raises(UserError) as error:
        evaluate.evaluate(**arguments)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_wrong_setting_of_the_last_attack_is_refused_by_name_before_any_pass():
    passes = []
    suite = {**FGSM, "steps": partial(attacks.pgd, num_steps=0)}
    with pytest.raises(UserError, match="^steps: num_steps must be .* at least 1, got 0$"):
        evaluate.evaluate(
            lambda x: x[:, :CLASSES],
            X,
            np.zeros(5, np.int32),
            suite,
            eps=[0.1],
            key=jax.random.key(0),
            progress=lambda batches, description: passes.append(description) or batches,
        )
    assert passes == []


@pytest.mark.parametrize(
    "change", [{"eps": [-1]}, {"x": X[:3]}, {"batch_size": 0}, {"attacks": {}}, {"bounds": (0, 0)}]
)
def test_the_model_is_not_called_before_the_arguments_are_checked(change):
    def logits_fn(x):
        raise AssertionError

    arguments = {"x": X, "y": np.zeros(5, np.int32), "attacks": FGSM, "eps": [0.1], **change}
    with pytest.raises(UserError):
        evaluate.evaluate(logits_fn, **arguments)


@pytest.mark.parametrize(
    "evaluation",
    [
        lambda x: evaluate.evaluate(jnp.tanh, x, np.zeros(5, int), FGSM, eps=[0.1]),
        lambda x: evaluate.minimal_eps(jnp.tanh, x, np.zeros(5, int), attacks.fgsm, high=1.0),
        lambda x: evaluate.certify_smoothed(jnp.tanh, x, std=0.1, key=jax.random.key(0)),
    ],
)
def test_an_evaluation_inside_jit_is_refused_in_one_line(evaluation):
    with pytest.raises(UserError) as caught:
        jax.jit(evaluation)(X)
    assert str(caught.value) == (
        "x must be known, as an evaluation returns NumPy arrays, got float32[5, 6] inside jit, "
        "vmap or grad"
    )


@pytest.mark.slow
def test_the_command_line_refuses_a_repeated_attack(commands):
    attack = "pgd(num_steps=2, step_size=.1)"
    arguments = ["--workdir=run", f"--attacks=fgsm,{attack},{attack}"]
    done = commands.run(*arguments, module="adv_jax.evaluate")
    message = f"error: attacks must not repeat, got {attack} twice or more\n"
    assert (done.status, done.out, done.err) == (1, "", message)


def test_a_missing_argument_is_named():
    with pytest.raises(UserError, match="^evaluate must get eps, got none: pass it, or bind it "):
        evaluate.evaluate(lambda x: x, X, np.zeros(5, int), FGSM)
