"""Stores made from nothing but a seed."""
