"""Training of dictionaries: activations in shuffled buffers, gradients by hand, the loop."""
