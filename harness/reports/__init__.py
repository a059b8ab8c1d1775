"""Tables, comparisons and figures, all derived from stored results."""
