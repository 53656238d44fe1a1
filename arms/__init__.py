"""Arms in MuJoCo scenes: one model for the Gymnasium environment and the simulated device."""
