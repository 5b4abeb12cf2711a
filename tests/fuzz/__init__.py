"""Fuzzing of the corpus loaders: mutated files must load whole or be refused."""
