"""Cells on a Ray cluster, without a folder that its nodes share: bytes go there and come back.

    luggage   the files that a cell needs       remote   what a worker does with a cell
    cluster   all that is asked of Ray          executor   what the driver hands out and takes in

A worker publishes nothing. The driver holds a cell's claim while it is computed and stores what
comes back, so a results folder is the same as after a run on one machine.
"""
