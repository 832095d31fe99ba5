"""The serving side: what a registered model needs to adapt when it is asked, and its files in and out. No Ray.

What travels with a model (`metadist.registry.code`) needs no Parquet and no tracking either.
"""
