"""How faithful and how sparse a circuit is; every measure is defined once, in `measures`."""
