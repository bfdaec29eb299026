"""Benchmarks of this project and of the alternatives; ``make bench`` runs them."""
