"""Foreign files are decoded in a process of its own, which can open no file and take no more than its share.

``client`` is the door; ``host`` runs what ``readings`` lists; ``confinement`` says what the process may not do.
"""
