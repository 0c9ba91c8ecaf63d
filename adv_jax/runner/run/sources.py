"""The finished runs that a run reads: they must not change while it can be resumed.

A run records the SHA-256 of the result.json of the runs in `pretrained` and in fields `..._fn`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adv_jax.data import files
from adv_jax.runner.config.document import ConfigError, is_model_field, leaves
from adv_jax.runner.store.formats import read_object, write_json
from adv_jax.runner.store.workdir import is_finished, read_config
from adv_jax.runner.store.writing import WorkdirError

_RECORD = "sources.json"


def checked_sha256(config: Mapping[str, Any], workdir: Path) -> dict[str, str]:
    """Returns {workdir: SHA-256 of its result.json} of the runs that a config names.

    Raises:
      UserError: as `finished`; one is not the one that the run in `workdir` has read.
    """
    known, found = recorded(workdir), {}
    for path, source in leaves(config):
        if not is_source(path):
            continue
        file = finished(path, source) / "result.json"
        found[source] = files.sha256(file)
        if known.get(source, found[source]) != found[source]:
            got = f"got SHA-256 {found[source]}"
            raise WorkdirError(f"{file} must be the one that {workdir / _RECORD} names, {got}")
    return found


def is_source(path: str) -> bool:
    """Returns whether a field of a config names the workdir of another run."""
    return path == "pretrained.workdir" or is_model_field(path)


def finished(field: str, source: Any) -> Path:
    """Returns the workdir of the run that a field names.

    Raises:
      ConfigError: there is no run, or it is not finished, so that its model could change before
        this run is resumed.
    """
    if not isinstance(source, str) or not is_finished(Path(source)):
        raise ConfigError(f"{field} must be a finished run, got {source!r}")
    try:
        read_config(Path(source))
    except WorkdirError as error:  # As for the folder of a sweep.
        raise ConfigError(f"{field}: {error}") from error
    return Path(source)


def recorded(workdir: Path) -> dict[str, str]:
    """Returns what `record` has recorded, or {}.

    Raises:
      WorkdirError: the file is damaged.
    """
    file = workdir / _RECORD
    return read_object(file) if file.exists() else {}


def record(workdir: Path, found: Mapping[str, str]) -> None:
    """Records the output of `checked_sha256`."""
    if found:
        write_json(workdir / _RECORD, found)
