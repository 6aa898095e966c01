"""How a server is seen: metrics, notes of its rounds, traces. Rounds know `rounds.observing` of it, and no more."""
