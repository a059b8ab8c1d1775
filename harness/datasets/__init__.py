"""Tasks' data: prompt pairs and training batches in disjoint, reproducible splits."""
