"""FLARE's serialiser as every FLARE process sets it up, before a test module serialises anything.

Otherwise it makes up decomposers as it meets classes: its own for ``Shareable`` would lose the content, for the
rest of the process.
"""

from nvflare.apis.utils.decomposers import flare_decomposers

flare_decomposers.register()
