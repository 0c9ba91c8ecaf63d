"""Names `launch` and `papers` as a wheel has them, `adv_jax.launch` and `adv_jax.papers`.

In a clone they lie beside adv_jax, under names that any project may have. A wheel has them inside
adv_jax, by the table of sources in pyproject.toml. This hook puts the prefix before the dotted
names of their modules: in imports, and in the commands of texts and messages.
"""

import re
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_RENAMED = ("launch", "papers")
_TEXTS = (".py", ".md", ".html")


class CustomBuildHook(BuildHookInterface):
    """Puts the renamed files into the wheel in place of those of the clone."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # An editable installation is the clone itself.
            return
        included = self.build_config.builder.recurse_included_files()
        files = {file.distribution_path: Path(file.path) for file in included}
        modules = {
            parts[2].removesuffix(".py")
            for parts in (PurePosixPath(target).parts for target in files)
            if parts[1] in _RENAMED
        }
        children = "|".join(map(re.escape, sorted(modules)))
        name = re.compile(rf"(?<![\w./])(?=(?:{'|'.join(_RENAMED)})(?: import|\.(?:{children}))\b)")
        self.folder = tempfile.TemporaryDirectory()
        for target, path in files.items():
            text = path.read_text("utf-8") if path.suffix in _TEXTS else ""
            if (renamed := name.sub("adv_jax.", text)) != text:
                copy = Path(self.folder.name, target)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_text(renamed, "utf-8")
                build_data["force_include"][str(copy)] = target

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            self.folder.cleanup()
