"""The corpus of programs that the laws are stated over; see `base` for what a program is."""

from . import (
    concurrent,
    generators,
    interrupted,
    mixed,
    not_durable,
    outside,
    seeds,
    sequential,
    shared,
)
from .base import FAR_FUTURE_MS, FOREVER_S, PROGRAMS, Program, World, program

__all__ = [
    "FAR_FUTURE_MS",
    "FOREVER_S",
    "PROGRAMS",
    "Program",
    "World",
    "concurrent",
    "generators",
    "interrupted",
    "mixed",
    "not_durable",
    "outside",
    "program",
    "seeds",
    "sequential",
    "shared",
]
