"""The embedded server: the current protocol over HTTP, for development and for one host.

`Server` serves one in-process store. See `server.py` for what it promises, `rules.py` for how
strict it is, `limits.py` for what it bears.
"""

from .debug import DebugStore
from .limits import Limits
from .push_out import PushRules
from .reach import host_and_port
from .rules import SPECIFICATION, Rules
from .server import Server

__all__ = [
    "SPECIFICATION",
    "DebugStore",
    "Limits",
    "PushRules",
    "Rules",
    "Server",
    "host_and_port",
]
