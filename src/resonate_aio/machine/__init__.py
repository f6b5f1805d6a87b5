"""The promise machine: pure; takes time as an argument, answers with a reply and effects."""

from .machine import PromiseMachine

__all__ = ["PromiseMachine"]
