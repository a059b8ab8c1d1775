"""One self-contained HTML page of stored runs: no network, readable without scripts."""
