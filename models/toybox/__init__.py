"""Toybox: a tiny, real latent-diffusion checkpoint and its cartoon world."""
