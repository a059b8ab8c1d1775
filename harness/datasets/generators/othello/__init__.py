"""Generator `othello`: which moves are legal after these moves?"""
