"""Circuits written in files for people and for other tools."""
