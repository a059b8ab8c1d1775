"""Data of kind `file`: prompt pairs read from JSON Lines, CSV or Parquet."""
