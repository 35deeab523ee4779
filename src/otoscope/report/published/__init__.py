"""Values that the literature prints, and results compared with them."""
