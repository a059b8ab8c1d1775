"""What the nodes of a cell's circuit do: what they are worth, write, look at and carry."""
