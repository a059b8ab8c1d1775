"""Generator `boolean_expressions`: the value of an expression of True, False, and, or, not."""
