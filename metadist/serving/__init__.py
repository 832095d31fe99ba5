"""The serving side: what a registered model needs to adapt when it is asked. No Ray, no Parquet, no tracking."""
