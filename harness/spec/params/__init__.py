"""`params` of methods and generators: their classes by kind, and defaults filled in."""
