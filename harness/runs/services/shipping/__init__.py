"""Trained weights written into folders that their specs name, to be read in place of training."""
