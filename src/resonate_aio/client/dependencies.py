"""Objects that durable functions of this process share: database pools, settings, clients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class Dependencies(Mapping[str, Any]):
    """A read-only view for functions; filled by `Resonate.set_dependency`."""

    def __init__(self) -> None:
        self._objects: dict[str, Any] = {}

    def add(self, name: str, obj: Any) -> None:
        """Register an object under a name, replacing the one before."""
        if not isinstance(name, str) or not name:
            raise TypeError(f"the name of a dependency is a non-empty string, got {name!r}")
        self._objects[name] = obj

    def __getitem__(self, name: str) -> Any:
        try:
            return self._objects[name]
        except KeyError:
            known = ", ".join(self._objects) or "none"
            raise KeyError(f"no dependency {name!r} is set; set are: {known}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._objects)

    def __len__(self) -> int:
        return len(self._objects)
