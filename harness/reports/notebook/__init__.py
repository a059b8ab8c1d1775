"""What notebooks show of tables and prompt pairs: HTML that needs no page around it."""
