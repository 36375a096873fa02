"""How far two masks agree."""
