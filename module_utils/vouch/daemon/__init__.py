"""The VM verifier: the service in dom0."""
