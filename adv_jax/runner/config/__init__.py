"""What a config may say, and how its names become functions."""
