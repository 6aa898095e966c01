"""The wire: generated protobuf classes, frozen messages with their bounds, and the one codec between the two."""
