"""Takes a person out of everything that a run folder holds, and keeps them out.

The id enters as clients send it. What leaves is a report of what was found where, and a list beside each door
(ingestion, the prediction log) by which later rows of that id are refused. Every step may be cut off and done again.
"""
