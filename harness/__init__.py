"""Circuit evaluation harness: from a YAML task to a leaderboard of circuits."""

__version__ = "0.1.0"
