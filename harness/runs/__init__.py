"""Plans, cells, the store, and what executes them."""
