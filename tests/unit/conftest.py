from __future__ import annotations

from hypothesis import settings

# An example takes as long as the machine's other work lets it: no test here is about time.
settings.register_profile("any-machine", deadline=None)
settings.load_profile("any-machine")
