"""Looks at this node as an operator would before production; a module a subject. Changes nothing that remains."""
