"""The gRPC service: thin. Decode, admit, hand over to the rounds, encode."""
