"""How fast weft is, side by side with plain threads and with its peers."""
