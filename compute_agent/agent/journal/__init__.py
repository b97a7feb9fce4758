"""The journal: what was accepted, how far it got and what has to be told, in one SQLite file.

Everything the agent must not forget is here before it is answered, begun or sent. One file, so that an
operation's end, the instance's new state and the notification of it are one transaction.
"""

from compute_agent.agent.journal.journal import Journal
from compute_agent.agent.journal.rows import InstanceRow, OperationRow

__all__ = ["InstanceRow", "Journal", "OperationRow"]
