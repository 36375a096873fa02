"""Networks that a task can ask for, and the file that keeps a trained one."""
