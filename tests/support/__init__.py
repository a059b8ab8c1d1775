"""What several folders of tests share: slow references, small models and tasks, checks."""
