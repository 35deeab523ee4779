"""Values from papers, and their comparison with results."""
