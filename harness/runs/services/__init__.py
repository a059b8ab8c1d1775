"""What is done with stored circuits: looked up, judged, compared, exported."""
