"""Random durable programs: what they are made of, how they are run, what they may return."""

from .answers import admits, is_a_race
from .generating import program_of
from .nodes import Part, nodes_of
from .running import Runner
from .shrinking import smaller

__all__ = ["Part", "Runner", "admits", "is_a_race", "nodes_of", "program_of", "smaller"]
