"""What writers and monitors say in a storm, written down as it comes: storms differ in what they do, not in this."""

from __future__ import annotations

from dataclasses import dataclass, field

from reliable_write import Outcome
from tests.chaos.clients import Told
from tests.chaos.restarts import Alarm, Audited, Finished, Story


@dataclass
class Heard:
    """All that was said."""

    stories: list[Story] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    """Write ids that monitors finished."""
    ghosts_removed: int = 0
    alarms: list[str] = field(default_factory=list)

    def note(self, message: object) -> bool:
        """Whether it is one of those that every storm hears."""
        if isinstance(message, Story):
            self.stories.append(message)
        elif isinstance(message, Told):
            self.told.append(message)
        elif isinstance(message, Finished):
            self.finished.append(message.write_id)
        elif isinstance(message, Audited):
            self.ghosts_removed += message.report.ghosts_removed
        elif isinstance(message, Alarm):
            self.alarms.append(message.told)
        else:
            return False
        return True

    def words(self) -> list[Outcome]:
        """Of all callers, as often as they were told."""
        stories = [word for story in self.stories for word in story.words]
        return stories + [word for told in self.told for word in told.words]
