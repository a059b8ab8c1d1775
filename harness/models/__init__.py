"""One transformer: its configuration, forward pass, training, checkpoints and answers."""
