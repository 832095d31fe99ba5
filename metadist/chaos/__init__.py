"""Chaos on purpose: train a recipe undisturbed and disturbed, and compare the bits. The way to qualify a cluster."""

from metadist.chaos.qualify import Verdict, qualify
from metadist.chaos.storm import Storm

__all__ = ["Storm", "Verdict", "qualify"]
