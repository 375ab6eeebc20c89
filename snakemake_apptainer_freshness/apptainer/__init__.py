"""Apptainer: the program, its cache, and the formats of its files."""
