"""Configs with hostile values run or are refused in one line: never a traceback."""

import collections
import math
import random
import runpy
import shlex
import sys

import pytest
from absl import flags
from ml_collections import config_flags
from test_configs import CONFIGS, SOURCES, config_of, noise, shrunk

from adv_jax.data import loading
from adv_jax.runner.config.command_line import explain_flags
from adv_jax.runner.config.document import leaves, with_values
from adv_jax.runner.run import preparing, trained, training
from adv_jax.runner.run.experiment import Experiment
from adv_jax.types import UserError

NESTED = {"name": "x"}
for _ in range(50):
    NESTED = {"a": NESTED}
HOSTILE = (
    *("x", "", "a\nb", "ä∞\x00", "../..", "x" * 5000, "__import__('os').system('true')", "$(id)"),
    *("~nobody", "fgsm", "l2", "linf", "zca", "nan", "None"),
    *(None, True, False, -1, 0, 1, 2, 3, 0.0, 0.5, 1.5, -0.5, 1e-320, 1e308),
    *(10**9, 2**31, 10**30, -(10**30), math.nan, math.inf, -math.inf),
    *((), (0,), (2, 2), (1.0,) * 3, ("a",), (1, "a"), ((),), ((1, 2), (3, 4)), [], [1, 2]),
    *({}, {1: 2}, {"name": {}}, {"name": None}, {"name": "fgsm"}, {"name": "mlp"}, NESTED),
    *({"objective.attack.eps": (0.1,)}, {"optimizer.learning_rate": (0.1, math.nan)}),
    *(print, {1, 2}, b"bytes", 1j),
)
# The nets whose steps are traced in a fraction of a second; the others are built.
TRACED = (
    ("quickstart", "quick"),
    ("shallow_covtype", "quick"),
    ("shallow_mnist", "quick,model=C"),
    ("backprop_mnist", "quick"),
    ("huang_mlp_mnist", "quick,method=lwa_rep"),
    ("goodfellow_mnist", "quick,method=smoothing"),
    ("goodfellow_mnist", "quick,method=vat,labels=100"),
    ("goodfellow_mnist", "quick,method=dae,source=RUN"),
)


class Accepted(Exception):
    """Raised instead of training, after the config passed all checks."""


@pytest.fixture(autouse=True)
def made_up_data(monkeypatch):
    """Replaces all sources except files by small sets of noise."""
    sets = {
        "mnist": noise("mnist", 300, (28, 28, 1)),
        "cifar10": noise("cifar10", 300, (32, 32, 3)),
        "covtype": noise("covtype", 210, (54,), num_classes=7),
    }
    for name, dataset in sets.items():
        made_up = {source: lambda dir, of=dataset: of for source in ("tfds", "embedded", "sklearn")}
        monkeypatch.setitem(loading._SOURCES, name, loading._SOURCES[name] | made_up)


@pytest.fixture
def not_trained(monkeypatch):
    """Makes `training.run` raise `Accepted` before it writes."""

    def accept(*_):
        raise Accepted

    monkeypatch.setattr(training, "_files", accept)
    monkeypatch.setattr(trained, "source_fns", lambda config, dataset: SOURCES)


def base(name, mode):
    """Returns a config for the sets above, with cheap preprocessing."""
    config = shrunk(config_of(name, mode)) | {"batch_size": 20}
    config["data"]["num_labels"] = min(config["data"]["num_labels"], 100)
    if name in ("backprop_cifar10", "goodfellow_cifar10", "ladder_cifar10"):
        config["data"]["preprocess"] = ({"name": "standardize"},)
    if name == "shallow_covtype":
        steps = ({"name": "contrast_norm", "norm": 10.0}, {"name": "zca", "regularizer": 0.1})
        config["data"]["preprocess"] = steps
    return config


def sections(config, prefix=""):
    for key, value in config.items():
        if isinstance(value, dict):
            yield f"{prefix}{key}", value
            yield from sections(value, f"{prefix}{key}.")


def hostile(old, draw):
    """Returns a value for a field, often of the right type, as it passes more checks."""
    number = int | float
    kind = number if isinstance(old, number) and not isinstance(old, bool) else type(old)
    alike = [value for value in HOSTILE if isinstance(value, kind)]
    return draw.choice(alike if alike and draw.random() < 0.7 else HOSTILE)


def overridden(config, draw):
    """Sets one or two fields, or a whole section, to hostile values -> (config, changes)."""
    paths = dict(leaves(config)) | {"replicas.grid": {}}
    if draw.random() < 0.1:
        paths = dict(sections(config))
    first, second = draw.choice(list(paths)), draw.choice(list(paths))
    changes = {first: hostile(paths[first], draw)}
    above, below = sorted((f"{first}.", f"{second}."), key=len)
    if not below.startswith(above) and draw.random() < 0.3:
        changes[second] = hostile(paths[second], draw)
    return with_values(config, changes), changes


def outcome(config, changes, workdir) -> str:
    """Returns the error message of the checks before a run, "" if the config is accepted."""
    try:
        training.run(config, workdir)
    except Accepted:
        return ""
    except UserError as error:
        return one_line(error, changes)
    except BaseException as error:
        raise AssertionError(f"{changes} raised {type(error).__name__}: {error}") from error
    raise AssertionError("neither accepted nor refused")


def one_line(error, given) -> str:
    message = str(error)
    assert message and "\n" not in message, given
    return message


def try_all(count, bases, seed, workdir):
    """Checks `count` configs, and prints how many are accepted."""
    draw = random.Random(seed)
    accepted = 0
    for _ in range(count):
        config, changes = overridden(draw.choice(bases), draw)
        accepted += not outcome(config, changes, workdir)
    print(f"{count} configs: {accepted} accepted, the others refused in one line")
    assert count / 50 < accepted < count / 2 and not workdir.exists()


# 10,000: 3 minutes of one core.
@pytest.mark.slow
@pytest.mark.parametrize("count", [60, pytest.param(10_000, marks=pytest.mark.exhaustive)])
def test_a_config_with_hostile_values_is_traced_or_refused(count, tmp_path, not_trained):
    try_all(count, [base(*mode) for mode in TRACED], 0, tmp_path / "run")


# 10,000: half a minute.
@pytest.mark.slow
@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.exhaustive)])
def test_every_config_with_hostile_values_is_built_or_refused(
    count, tmp_path, not_trained, monkeypatch
):
    monkeypatch.setattr(preparing, "check_parts", check_built)
    modes = [(path.stem, "quick") for path in CONFIGS if path.stem != "backprop_cifar10"]
    bases = [base(*mode) for mode in (*modes, *TRACED, ("backprop_cifar10", "quick,net=fc"))]
    try_all(count, bases, 1, tmp_path / "run")


def check_built(*parts, **options):
    """Runs `check_parts` without the tracing, which is slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiment, "init", lambda *_: (_ for _ in ()).throw(Accepted))
        preflight_check(*parts, **options)


preflight_check = preparing.check_parts


# 10 minutes of one core: 25 of those accepted are trained.
@pytest.mark.exhaustive
def test_an_accepted_config_trains_or_fails_in_one_line(tmp_path, monkeypatch, capsys):
    draw, bases = random.Random(2), [base(*mode) for mode in TRACED[:-1]]
    trainings = 0
    while trainings < 25:
        config, changes = overridden(draw.choice(bases), draw)
        huge = [v for _, v in leaves(config) if isinstance(v, int | float) and v > 10_000]
        if huge or config.get("epochs") != 1:
            continue  # Sizes that fit no machine are refused by the machine.
        try:
            training.run(config, tmp_path / str(trainings))
        except UserError as error:
            one_line(error, changes)
            trainings += (tmp_path / str(trainings)).exists()
        else:
            trainings += 1


TEXTS = (
    *(
        "",
        "x",
        "-1",
        "1.5",
        "nan",
        "1e400",
        "None",
        "True",
        "(",
        "()",
        "(1,",
        "('a',)",
        "[1]",
        "{}",
    ),
    *("{'a': (", "{'objective.attack.eps': (.1,)}", "a\nb", "ä∞", "'", '"', "\\", "%s", "$(id)"),
    *("__import__('os').system('touch HACKED')", "[].append(1)", "9" * 400, "(" * 300),
)


# 10,000: a minute.
@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=pytest.mark.exhaustive)])
def test_a_command_line_with_hostile_values_is_read_or_refused(count, tmp_path, monkeypatch):
    """Parses flags as `main.parse_flags` does, but without sys.argv."""
    draw = random.Random(3)
    seen = collections.Counter()
    files = {path: runpy.run_path(str(path))["get_config"]("quick").to_dict() for path in CONFIGS}
    monkeypatch.chdir(tmp_path)
    for _ in range(count):
        path = draw.choice(CONFIGS)
        field = draw.choice([*(field for field, _ in leaves(files[path])), "replicas.grid"])
        mode = draw.choice(("quick",) * 9 + TEXTS[:3])
        extra = draw.choice(["", "", "", ".x", "y", "[0]", "."])
        argv = ["main", f"--config={path}:{mode}", f"--config.{field}{extra}={draw.choice(TEXTS)}"]
        monkeypatch.setattr(sys, "argv", argv)  # ml_collections reads it, too.
        values = flags.FlagValues()
        config = config_flags.DEFINE_config_file("config", flag_values=values)
        try:
            values(argv)
            config.value.to_dict()
            seen["read"] += 1
        except Exception as error:
            line = explain_flags(argv, error)
            assert line and "\n" not in line, shlex.join(argv)
            seen["refused"] += 1
    print(dict(seen))
    assert min(seen.values()) > count / 10 and not list(tmp_path.iterdir())
