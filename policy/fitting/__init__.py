"""What is fitted to a finished checkpoint: the start of warm starts, and anchors."""
