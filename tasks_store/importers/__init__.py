"""Stores made from the data sets of others."""
