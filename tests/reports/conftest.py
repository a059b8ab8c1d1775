import sys
from pathlib import Path

# The made-up cells of the tests of runs, and the made-up results folders of these.
sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))
sys.path.insert(0, str(Path(__file__).parent))
