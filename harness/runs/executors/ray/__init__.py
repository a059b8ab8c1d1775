"""Cells on a Ray cluster whose nodes share no folder: bytes go there and come back.

`luggage`: the files of a cell; `remote`: what a worker does; `cluster`: all that is asked of Ray;
`executor`: the driver. It holds a cell's claim while it is computed, and alone stores anything.
"""
