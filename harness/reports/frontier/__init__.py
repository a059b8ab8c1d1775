"""The smallest circuits that reach a loss, in models with few and with many weights."""
