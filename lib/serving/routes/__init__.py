"""HTTP routes: one file for each first part of an address."""
