"""Primitives: from `cryptography`, bound to the encodings that this protocol uses; nothing here knows of a round."""
