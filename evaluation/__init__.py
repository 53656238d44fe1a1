"""Results on disk, intervals and paired tests, and the latency that a plan is charged with."""
