"""Computing cells: their model and set-up, the numbers, and the workers that do it."""
