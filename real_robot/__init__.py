"""Real robots: drivers, safety and timing."""
