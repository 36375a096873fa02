"""From annotations to a model version that may serve."""
