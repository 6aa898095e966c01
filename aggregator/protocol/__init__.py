"""The protocol as pure steps: no clock, no I/O, no global randomness; both sides of it, side by side."""
