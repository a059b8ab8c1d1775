"""Random scores and random connected circuits: what every method has to beat."""
