"""Checkpoints of the public code, read into our models."""
