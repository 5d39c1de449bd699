"""Embedded models of DUO Studio."""
