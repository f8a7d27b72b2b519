"""The exercises of lesson 02."""

from minilm.checks.compare import Exercise

EXERCISES: tuple[Exercise, ...] = ()
