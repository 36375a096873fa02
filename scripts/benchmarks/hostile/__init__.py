"""What ``bench_hostile`` sends: files and requests that no honest client would, each drawn from a seed and a number."""
