"""MoleculeIndex: a library of molecules that can be searched with profiles."""
