"""Sangam's server side: from primitives (crypto) over the protocol and its rounds to the gRPC service."""
