"""What even and odd distances between tokens decide: patterns, scores, positions, signs."""
