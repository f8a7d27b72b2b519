"""The exercises of lesson 11."""

from minilm.checks.compare import Exercise

EXERCISES: tuple[Exercise, ...] = ()
