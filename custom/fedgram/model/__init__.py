"""The shared transformer, what is adapted in it, and what stands before and after it at a site."""

import logging

# Where PEFT finds bitsandbytes, it imports it, which complains of a kernel for inference that no training uses.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
