"""No deadlines: how long one example takes is the machine's business, and this suite times nothing."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
