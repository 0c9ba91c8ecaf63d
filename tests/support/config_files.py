"""The files of configs/ and their configs."""

import runpy
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "configs"
CONFIGS = sorted(path for path in FOLDER.glob("[!_]*.py") if path.stem != "common")


def config_of(name: str, mode: str) -> dict:
    path = next(path for path in CONFIGS if path.stem == name)
    make = runpy.run_path(str(path))["get_config"]
    return (make(mode) if mode else make()).to_dict()
