"""Circuits made of what can be gated at sites: channels, or features of a dictionary.

`codes` says how a site's value is made of elements and is what another granularity brings.
"""
