"""Measurements of this project against what it is compared to; ``make bench`` runs them."""
