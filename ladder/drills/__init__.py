"""Drills: steady visitors, one fault, and a verdict on what they felt.

Read in this order: record, visitor, checker, promises, drill, picture, scoreboard.
"""
