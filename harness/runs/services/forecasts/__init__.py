"""What a run will take, told from earlier cells and the size of models, and how busy it is here."""
