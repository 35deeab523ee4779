"""What a worker does for one study: its search, then its final runs."""
