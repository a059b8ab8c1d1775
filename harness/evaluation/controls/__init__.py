"""Controls of a search: what it should not find circuits for."""
