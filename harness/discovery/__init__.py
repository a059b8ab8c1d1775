"""Methods that find which elements matter: one file each, in rooms by how they work.

`problem` is what a method gets and returns, `info` what it says of itself, `registry` finds it by
name, `sizing` cuts circuits of a wanted size from what it returned.
"""
