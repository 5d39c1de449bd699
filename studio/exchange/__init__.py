"""Pairs of pictures from outside, and the curated ones out again. Torch-free: what a job does with them is its own."""
