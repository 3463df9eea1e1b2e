"""How content users are with a policy, and so how often they come: the part of the world that a policy changes.

A user's satisfaction is the running mean of 'the visit had a click' (weight `memory` on the past), 1 at first. A
planned visit takes place with probability loyalty + (1 - loyalty) * satisfaction. This is a stand-in for the
many ways in which people leave a feed that bores them, chosen to be simple; only its direction is meant.
"""

import numpy as np

from feedrank.config.simulation import AudienceConfig
from feedrank.data.generator.population import Floats, Ints
from feedrank.simulation.visits import Visits


class Audience:
    """The users' satisfaction under one policy."""

    def __init__(self, *, num_users: int, config: AudienceConfig) -> None:
        self.satisfaction: Floats = np.ones(num_users)
        self._config = config

    def copy(self) -> "Audience":
        """The same users, to go on under another policy."""
        twin = Audience(num_users=len(self.satisfaction), config=self._config)
        twin.satisfaction = self.satisfaction.copy()
        return twin

    def who_comes(self, visits: Visits) -> Visits:
        """The planned visits that take place."""
        loyalty = self._config.loyalty
        chance = loyalty + (1 - loyalty) * self.satisfaction[visits.user_ids]
        return visits.take(np.flatnonzero(visits.luck.come < chance))

    def remember(self, visits: Visits, *, clicks_per_visit: Ints) -> None:
        """Takes in how the visits of a day went."""
        memory = self._config.memory
        for user, content in zip(visits.user_ids, clicks_per_visit > 0, strict=True):
            self.satisfaction[user] = memory * self.satisfaction[user] + (1 - memory) * content
