"""Official SDKs of the current protocol as peers of tests, each in an environment of its own.

| variable | names | made by |
| --- | --- | --- |
| RESONATE_TEST_SDK_074 | a Python | `pip install resonate-sdk==0.7.4` |
| RESONATE_TEST_SDK_081 | a Python | `pip install resonate-sdk==0.8.1` |
| RESONATE_TEST_SDK_TS_0114 | a folder | `npm install @resonatehq/sdk@0.11.4` |
| RESONATE_TEST_SDK_TS_0115 | a folder | `npm install @resonatehq/sdk@0.11.5` |

A Python is an interpreter (3.12 or newer) that has the package, a folder one that holds the
`node_modules` with the package; `node` is the one on PATH. Nothing is looked for elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
_VERSION_OF: Final = "from importlib.metadata import version; print(version('resonate-sdk'))"


@dataclass(frozen=True)
class Sdk:
    """One version of one SDK.

    Args:
        package: Its name in the registry.
        version: The version that must be there.
        variable: Of the environment; it names where the package is.
        separator: What stands between a root's id and its first child's.
        first: The number of a root's first child.
        beats_without_tasks: Its heartbeats mean every task of the process, and name none.
    """

    package: str
    version: str
    variable: str
    separator: str
    first: int
    beats_without_tasks: bool = False

    @property
    def name(self) -> str:
        """Package and version, in one word."""
        return f"{self.package}-{self.version}"

    @property
    def takes_keywords(self) -> bool:
        """Whether its functions have keyword arguments: JavaScript knows none."""
        return not self._is_npm

    @property
    def _is_npm(self) -> bool:
        return self.package.startswith("@")

    @property
    def absent(self) -> str:
        """Why its tests are skipped."""
        where = "folder of its node_modules" if self._is_npm else "Python of its environment"
        return f"no {self.package} {self.version}: set {self.variable} to the {where}"

    def command(self) -> list[str] | None:
        """How its peer program is run, or None where the SDK is absent."""
        named = os.environ.get(self.variable)
        if not named:
            return None
        if self._is_npm:
            node = shutil.which("node")
            found = Path(named) / "node_modules" / self.package
            script = str(_HERE / "sdk_ts_peer.mjs")
            return [node, script, str(found)] if node and found.is_dir() else None
        script = str(_HERE / "sdk_py_peer.py")
        return [named, script] if os.access(named, os.X_OK) else None

    def found_version(self) -> str:
        """The version that is there; the SDK must be."""
        named = os.environ[self.variable]
        if self._is_npm:
            package = Path(named) / "node_modules" / self.package / "package.json"
            return str(json.loads(package.read_text())["version"])
        asked = subprocess.run(
            [named, "-c", _VERSION_OF], capture_output=True, text=True, check=True
        )
        return asked.stdout.strip()

    def summary(self) -> str:
        """One line for the end of a test run: present or absent."""
        label = f"{self.package} {self.version}"
        found = os.environ.get(self.variable) if self.command() else None
        return f"{label}: {found}" if found else f"{label}: absent ({self.absent})"


SDKS: Final = (
    Sdk("resonate-sdk", "0.7.4", "RESONATE_TEST_SDK_074", ".", 1),
    Sdk("resonate-sdk", "0.8.1", "RESONATE_TEST_SDK_081", ":", 1),
    Sdk("@resonatehq/sdk", "0.11.4", "RESONATE_TEST_SDK_TS_0114", ".", 0, beats_without_tasks=True),
    Sdk("@resonatehq/sdk", "0.11.5", "RESONATE_TEST_SDK_TS_0115", ":", 0),
)
