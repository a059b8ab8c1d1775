"""Whether a circuit is what the model uses: what is said of it beyond its own run."""
