"""Runs that are still computed: their page, served on this machine alone."""
