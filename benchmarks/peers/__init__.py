"""What a user would pick instead of the predictor: MLServer, BentoML and Ray Serve, with the stock peer's model.

Each peer NAME has `NAME_peer.py`, its server as the library's own documentation writes one, and `NAME.txt`, all that
the library needs, in exact versions. These go into a folder of their own and never into our environment, whose versions
some of them contradict. `lock.sh` writes them anew.
"""
