"""The document that a finished run leaves: what was measured, on what data, with what programs."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from adv_jax import __version__
from adv_jax.data import Dataset
from adv_jax.evaluate import Curves
from adv_jax.runner.config import Replica


def document(
    config: Mapping[str, Any],
    dataset: Dataset,
    rows: Mapping[str, np.ndarray],
    replicas: Sequence[Replica],
    measured: Curves,
    *,
    epochs: Sequence[int],
    best_epochs: Sequence[int],
    seconds: float,
) -> dict[str, Any]:
    """result.json, as DESIGN's contract of a workdir has it; rates are fractions in [0, 1].

    Args:
      rows: of each replica, i32[R, n].
      measured: `Program.evaluate`'s, f32[R] and f32[R, E].
      epochs: that each replica trained.
      best_epochs: of the lowest validation error, 0 where there was no validation.
      seconds: of training, over all processes.
    """
    num_test = len(dataset.test.y)

    def error(accuracy: ArrayLike) -> np.ndarray:
        """As a fraction with the exact denominator, which float32 has not kept."""
        return np.round((1 - np.asarray(accuracy, float)) * num_test) / num_test

    errors, eps = error(measured.clean.accuracy), list(config["evaluation"]["eps"])
    evaluation = {}
    for attack, curve in measured.attacks.items():
        others = {name: v.tolist() for name, v in curve._asdict().items() if name != "accuracy"}
        evaluation[attack] = {"eps": eps, "error": error(curve.accuracy).tolist(), **others}
    if len(evaluation) > 1:  # Of one, it is that attack.
        evaluation["worst_case"] = {"eps": eps, "error": error(measured.worst_case).tolist()}
    return {
        "experiment": config["experiment"],
        "data": data_document(dataset, rows),
        "replicas": [
            {
                "seed": replica.seed,
                "overrides": replica.overrides,
                "test_error": errors[i],
                "confidence": float(measured.clean.confidence[i]),
                "epochs": int(epochs[i]),
                "best_epoch": int(best_epochs[i]) or None,
            }
            for i, replica in enumerate(replicas)
        ],
        "evaluation": evaluation,
        "seconds": round(seconds, 1),
        **provenance(),
    }


def data_document(dataset: Dataset, rows: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The entry "data": where the data came from, and how many examples serve what."""
    sizes = {name: int(of_replicas.shape[1]) for name, of_replicas in rows.items()}
    return {
        "name": dataset.name,
        "source": dataset.source,
        "sha256": dataset.sha256,
        "sizes": sizes | {"test": len(dataset.test.y)},
    }


def summary(result: Mapping[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """The closing table of a result: a title, the columns, and a row for each replica.

    The title has the mean test error and, of several replicas, the sample standard deviation.
    """
    rows = [
        [
            str(i),
            str(replica["seed"]),
            ", ".join(f"{path}={value:g}" for path, value in replica["overrides"].items()) or "-",
            f"{100 * replica['test_error']:.2f}",
            f"{replica['confidence']:.4f}",
            str(replica["epochs"]),
            str(replica["best_epoch"] or "-"),
        ]
        for i, replica in enumerate(result["replicas"])
    ]
    errors = [100 * replica["test_error"] for replica in result["replicas"]]
    spread = f" (sd {np.std(errors, ddof=1):.3f})" if len(errors) > 1 else ""
    data = result["data"]
    title = (
        f"{result['experiment']}: test error {np.mean(errors):.3f} %{spread} on "
        f"{data['sizes']['test']} examples of {data['name']} ({data['source']})"
    )
    columns = ["replica", "seed", "settings", "error %", "confidence", "epochs", "best epoch"]
    return title, columns, rows


def environment(devices: int) -> dict[str, Any]:
    """What the bits of a training depend on besides the config.

    Args:
      devices: how many the training runs on.
    """
    flags = os.environ.get("XLA_FLAGS", "").split()
    return {
        **_versions(),
        "device": jax.devices()[0].device_kind,
        "devices": devices,
        "cpu": _cpu(),
        "XLA_FLAGS": " ".join(sorted(flag for flag in flags if "device_count" not in flag)),
    }


def _cpu() -> str:
    """The model, and the widest vectors it has: XLA compiles for them."""
    try:
        about = Path("/proc/cpuinfo").read_text()
    except OSError:  # Not Linux.
        return platform.machine()
    lines = (line.partition(":") for line in about.splitlines())
    known = {name.strip(): value.strip() for name, _, value in lines}
    features = known.get("flags", known.get("Features", "")).split()
    widest = next((isa for isa in ("avx512f", "avx2", "avx", "sve") if isa in features), "")
    return f"{known.get('model name', platform.machine())} {widest}".strip()


def provenance() -> dict[str, Any]:
    """The device, versions of the packages, and the commit (None outside of adv_jax's checkout).

    It ends in -dirty where a tracked file differs outside the folders of results.
    """
    # Told to look here only: an installed package may lie in a checkout of something else.
    folder = Path(__file__).parents[2]
    git = ["git", f"--git-dir={folder / '.git'}", f"--work-tree={folder}"]
    call = partial(subprocess.run, cwd=folder, capture_output=True, text=True)
    try:
        commit = call([*git, "describe", "--always"], check=True).stdout.strip()
        changed = call([*git, "diff", "--quiet", "HEAD", "--", ".", ":!*/results/*"])
        commit += "-dirty" if changed.returncode else ""
    except (OSError, subprocess.CalledProcessError):
        commit = None
    versions = {"python": platform.python_version(), **_versions()}
    device = jax.devices()[0].device_kind
    return {"device": device, "versions": versions, "git": commit}


def _versions() -> dict[str, str]:
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {"adv_jax": __version__} | {p: importlib.metadata.version(p) for p in packages}
