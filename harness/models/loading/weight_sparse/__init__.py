"""Weight-sparse transformers in the form of openai/circuit_sparsity, and their circuits."""
