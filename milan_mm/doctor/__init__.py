"""Check an installation and the machine around it: `checks.py` first.

Only the standard library is imported at the top of these modules, since a broken package is a
finding.
"""
