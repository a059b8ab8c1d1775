"""How large data files may be; `harness help file-data` says it too."""

LARGEST = 1 << 28
"""Bytes of a file, and characters of all its rows."""
LONGEST_ROW = 1 << 20
"""Bytes of a row."""
MOST_ROWS = 1_000_000
MOST_LINES = 2 * MOST_ROWS
"""Lines of a text file: some are empty, and a quoted text of CSV can have several."""
MOST_TOKENS = 1 << 25
"""Token ids of all clean prompts, each padded to the longest."""
