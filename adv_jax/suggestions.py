"""Suggests the legal name nearest to an unknown one, or ours for that of another library."""

import difflib
from collections.abc import Iterable, Mapping

# Name in foolbox, torchattacks, ART, cleverhans or RobustBench, or in Keras and scikit-learn ->
# ours; the first that a function has. adv_jax/attacks/README.md shows those of attacks by library.
OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("epsilons", "max_norm", "radius"), ("eps", "std")),
    "epsilon": ("eps", "overshoot", "std"),
    **dict.fromkeys(("alpha", "abs_stepsize", "rel_stepsize", "eps_step"), ("step_size",)),
    **dict.fromkeys(("eps_iter", "max_stepsize", "stepsize"), ("step_size", "learning_rate")),
    **dict.fromkeys(("steps", "nb_iter", "num_iter", "num_iterations"), ("num_steps",)),
    **dict.fromkeys(("iterations", "iters", "n_iter"), ("num_steps",)),
    "max_iter": ("num_queries", "num_steps"),
    **dict.fromkeys(("n_queries", "max_queries"), ("num_queries",)),
    **dict.fromkeys(("n_restarts", "num_random_init", "nb_restarts"), ("restarts", "random_start")),
    **dict.fromkeys(("rand_init", "random_init"), ("random_start",)),
    **dict.fromkeys(("clip_values", "clip_min", "clip_max"), ("bounds",)),
    **dict.fromkeys(("ord", "lp", "p", "distance"), ("norm",)),
    **dict.fromkeys(("y_target", "target", "is_targeted"), ("targeted",)),
    **dict.fromkeys(("seed", "rng", "generator", "random_state"), ("key",)),
    "binary_search_steps": ("search_steps",),
    "lr": ("learning_rate",),
    "kappa": ("confidence",),
    "cw": ("carlini_wagner",),
    "c": ("initial_const",),
    "init_epsilon": ("initial_eps",),
    "regularization": ("beta",),
    "decision_rule": ("rule",),
    **dict.fromkeys(("momentum", "decay_factor"), ("decay",)),
    "diversity_prob": ("prob",),
    **dict.fromkeys(("infinity", "chebyshev", "sup"), ("linf",)),
    "euclidean": ("l2",),
    "manhattan": ("l1",),
    "resize_rate": ("smallest",),
    "len_kernel": ("kernel_size",),
    **dict.fromkeys(
        ("initial_gradient_eval_steps", "init_eval", "initial_num_evals"), ("initial_evals",)
    ),
    **dict.fromkeys(("max_gradient_eval_steps", "max_eval", "max_num_evals"), ("max_evals",)),
    **dict.fromkeys(("starting_points", "x_adv_init"), ("start",)),
    **dict.fromkeys(("bs", "batch", "n_batch"), ("batch_size",)),
    **dict.fromkeys(("model", "model_fn", "predict"), ("logits_fn", "models")),
    **dict.fromkeys(("width", "hidden_layer_sizes", "hidden_sizes", "units"), ("features",)),
    **dict.fromkeys(("num_epochs", "n_epochs"), ("epochs",)),
    **dict.fromkeys(("dropout_rate", "drop_rate"), ("dropout",)),
}


def suggestion(found: str, legal: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for our word or the nearest legal name, "" if none is near.

    Of a path, as "model.width" or "module:width", the last part counts: first our word for it in
    the same group, then in groups below, then in all others, then what is spelled almost so.

    >>> suggestion("nb_iter", ["num_steps", "eps"]), suggestion("epss", ["num_steps", "eps"])
    ("; did you mean 'num_steps'?", "; did you mean 'eps'?")
    >>> suggestion("lr", ["epochs", "optimizer.learning_rate"])
    "; did you mean 'optimizer.learning_rate'?"
    >>> suggestion("objective.foo", ["objective.name", "objective.attack.norm"])
    ''
    """
    names = list(legal)
    group, last = _group_and_name(found)
    own = [name.removeprefix(group) for name in names if name.startswith(group)]
    others = [name for name in names if _group_and_name(name)[0] != group]
    lower = last.lower()
    words = (*OTHER_NAMES.get(lower, ()), last, lower)
    is_field = not {":", "/"} & set(found)  # Two modules, files or topologies may share an ending.
    alike = [name for name in others if is_field and _group_and_name(name)[1] in words]
    meant = (
        [group + word for word in words if word in own][:1]
        or (group and [name for name in alike if name.startswith(group)])
        or alike
        or [group + name for name in _nearest(last, own) or _nearest(lower, own)]
        # A long group alone makes two fields alike.
        or _nearest(found, others, least=0.8 if is_field else 0.6)
    )
    return f"; did you mean {' or '.join(map(repr, meant))}?" if meant else ""


def _nearest(found: str, legal: Iterable[str], least: float = 0.6) -> list[str]:
    return difflib.get_close_matches(found, [*legal], n=1, cutoff=least)


def _group_and_name(path: str) -> tuple[str, str]:
    """Returns ("objective.attack.", "eps") of "objective.attack.eps", and folder and file."""
    cut = 1 + (path.rfind("/") if "/" in path else max(path.rfind("."), path.rfind(":")))
    return path[:cut], path[cut:]
