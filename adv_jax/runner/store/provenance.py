"""Describes what computes: the versions of packages, the devices, the processor and the commit."""

import importlib.metadata
import os
import platform
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import jax

from adv_jax import __version__


def environment(devices: int) -> dict[str, Any]:
    """Returns the versions, devices and flags that change the rounding of a training.

    Args:
      devices: number of devices that the training uses.
    """
    flags = os.environ.get("XLA_FLAGS", "").split()
    return {
        **_versions(),
        "device": jax.devices()[0].device_kind,
        "devices": devices,
        "cpu": cpu(),
        "XLA_FLAGS": " ".join(sorted(flag for flag in flags if "device_count" not in flag)),
    }


def cpu() -> str:
    """Returns the CPU's model and its widest vector extension, which XLA compiles for."""
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
    """Returns the device, the package versions and the git commit (None outside a checkout).

    The commit ends in -dirty if a tracked file outside the results folders differs from it.
    """
    # An installed package may lie inside the checkout of another project.
    folder = Path(__file__).parents[3]
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
