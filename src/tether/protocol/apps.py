"""The programs that sessions serve, by name, and the family that users filter by.

Law: a table only. The agent names a session by it, and the server counts by it, so that a name that a
client makes up never becomes a series of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from tether.attribution.vocabulary import ConnectionType

# fmt: off
_SSH = ("ssh", "zed", "emacs", "neovim")
_VSCODE = (
    "vscode", "vscode_insiders", "vscode_web", "code_server", "code_oss", "cursor", "windsurf",
    "positron", "vscodium", "vscodium_insiders", "codium", "antigravity", "trae", "trae_cn", "kiro",
    "devin", "devin_next",
)
_JETBRAINS = (
    "jetbrains", "intellij", "pycharm", "goland", "webstorm", "phpstorm", "rubymine", "clion",
    "rider", "rustrover", "datagrip", "dataspell", "mps", "android_studio",
)
# fmt: on

FAMILIES: Mapping[str, ConnectionType] = {
    **dict.fromkeys(_SSH, ConnectionType.SSH),
    **dict.fromkeys(_VSCODE, ConnectionType.VSCODE),
    **dict.fromkeys(_JETBRAINS, ConnectionType.JETBRAINS),
}
"""App -> family. An app that is not here is counted by its name and filed under `ssh`."""
