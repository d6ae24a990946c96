"""Readers of libraries of molecules, one a format."""
