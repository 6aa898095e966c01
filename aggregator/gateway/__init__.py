"""The operator API as JSON over HTTP, at the operator's side: with its identity, beside its platform."""
