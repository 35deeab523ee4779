"""Results as text tables, as sentences, and as files."""
