"""Analyses and rewrites of the graph, and the operator rules they share."""
