"""Methods that score edges. One file each; `registry` finds them by name."""
