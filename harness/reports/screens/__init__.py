"""Screens for the terminal: plain data to lines of a given width."""
