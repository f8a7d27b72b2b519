"""The exercises of lesson 03."""

from minilm.checks.compare import Exercise

EXERCISES: tuple[Exercise, ...] = ()
