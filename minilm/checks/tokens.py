"""The exercises of lesson 01."""

from minilm.checks.compare import Exercise

EXERCISES: tuple[Exercise, ...] = ()
