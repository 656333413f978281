"""Data sets as arrays: read from files that already lie on disk, never downloaded in training."""
