"""A folder with a lock and an image folder, in which the command line runs in this process."""

from tests.support.command_line import good, place, terminal

__all__ = ["good", "place", "terminal"]  # fixtures
