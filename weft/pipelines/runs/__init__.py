"""A run from its first journal entry to the published version."""
