"""Sections of tables, figures and text as a page, as files and as text."""
