"""`sangam simulate`: the real protocol among a thousand clients on one machine, without a network."""
