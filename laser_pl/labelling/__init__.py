"""Asking people which responses are better."""
