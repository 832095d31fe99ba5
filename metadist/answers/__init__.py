"""What is asked of a loaded model: one task a request (`request`), all groups of a table at once (`groups`), or that in
Parquet files (`tables`). Nothing here needs Ray."""
