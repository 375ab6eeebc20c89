"""What the tests run against: real programs, a real registry, images made from nothing.

``tools`` installs the programs (``make tools``), ``programs`` finds them, ``registry`` runs Docker's registry
on loopback, ``images`` builds images in memory and pushes them.
"""
