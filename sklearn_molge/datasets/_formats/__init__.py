"""Readers and writers of GCT and GCTX files."""
