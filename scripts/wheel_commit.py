"""Hatch's build hook: a wheel carries the commit that it was built from, for `tether/version.py`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommitHook(BuildHookInterface[Any]):
    """Puts `commit.txt` into the wheel; an editable install reads its checkout instead."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        package = Path(self.root, "src", "tether")
        spec = importlib.util.spec_from_file_location("tether_version", package / "version.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        commit = module.commit_of(str(package))
        if version == "editable" or not commit:
            return
        made = Path(self.directory, module.COMMIT_FILE)
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(f"{commit}\n", encoding="ascii")
        build_data["force_include"][str(made)] = f"tether/{module.COMMIT_FILE}"
