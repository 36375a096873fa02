"""The record: what was seen, who drew what, which model learned from it, and the files that belong to the rows."""
