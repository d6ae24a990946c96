"""Displays that draw the numbers of the inspection."""
