"""Experiments, a file each: a table, as rows that name runs; `part` says what a file holds, `recipe` makes the runs."""
