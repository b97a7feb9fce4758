"""compute-agent: owns the guests of one compute node. docs/architecture.md shows the house."""

__version__ = "0.1.0"
