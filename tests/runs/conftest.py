import sys
from pathlib import Path

# Worker processes inherit sys.path, so that they can import the fake compute function.
sys.path.insert(0, str(Path(__file__).parent))
