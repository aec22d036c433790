"""What an evaluation tells: its files and its tables on the screen."""
