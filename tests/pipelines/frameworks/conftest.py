"""Tests that need PyTorch, Keras and JAX: `make test-pipelines`, never `make test`."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
