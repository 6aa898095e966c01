"""Real processes of a throw-away consortium on this one machine: what the demo and the benchmark share."""
