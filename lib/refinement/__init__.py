"""From a rough mask to one like the expert's: the recurrent refiner, its training pairs, and what it may not do."""
