# SPDX-License-Identifier: MIT
"""The control protocol: requests to ccfsd and between ccfsd and its daemons.

`messages` is the codec, `client` the client's end of a connection, `paths` where ccfsd listens.
"""
