"""Circuits made of edges: a writer's contribution to what one reader reads of the stream.

Inside, masks are matrices [W, R] of writers and readers; outside, flat [E] as every space's.
"""
