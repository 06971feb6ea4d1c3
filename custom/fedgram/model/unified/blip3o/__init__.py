"""BLIP3o (Chen et al. 2025, arXiv 2505.09568), the backbone of the FedUMM paper, as a unified model.

A Qwen2.5-VL tower reads pictures and words. To make a picture, learnt query tokens follow the prompt into the
tower; what it writes at them conditions a diffusion transformer, which makes features of EVA-CLIP by flow
matching; a frozen decoder paints from the features. Built from parts of transformers and diffusers; none of
BLIP3o's code is used.

Read from where. The public repository JiuhaiChen/BLIP3o, branch ``main`` (Qwen2.5-VL, the code of the published
4B and 8B): keys of config.json; names of tensors, from the modules that its trainer saves; query tokens, their
place after ``[IMG]``, and the prompt's words; times, loss, dropping, steps and guidance; EVA-CLIP's sizes and
pooling; the diffusion transformer, whose settings no checkpoint holds (a copy of Lumina-Next's with a projection
inside). Its issue 29 shows the width 4864 of the feed-forward layers in the published 8B, where later versions of
diffusers would build 7168: the width is seen from the weights. The decoder is Emu2's (``pipeline_emu2_gen.py`` of
commit 7bfef50), in the folders ``unet``, ``vae`` and ``scheduler``, variant ``bf16``. Lumina-Next's scheduler
shifts no time.

Not tried, for no weights were within reach: the published checkpoints themselves. Tested with small random ones
written in their layout. So it is not known whether

- they hold EVA-CLIP (``model.gen_vision_tower…``): the training code saves it, and the authors also publish it
  by itself; both are read;
- they hold a VAE (``model.vae…``), which the training code had until 22 May 2025: it is left unread;
- the 4B has ``lm_head.weight``: where it is absent and config.json ties it, the table of embeddings is taken;
- pictures and answers are as good as the published ones.

A tensor of any other name, or one that does not fit, is a :class:`fedgram.errors.BackboneError`.

What is done otherwise than there: a prompt in training has the format that BLIP3o samples with (its trainer puts
an empty answer of the assistant before ``[IMG]``). A picture to be understood is stretched to 448 × 448, so that
a site's tokens have one shape; BLIP3o reads it at its own size. Later variants (BLIP3o-NEXT; SigLIP 2 with Qwen3
and SANA) are other models.
"""

from fedgram.model.unified.blip3o.load import load_blip3o
from fedgram.model.unified.blip3o.model import Blip3o

__all__ = ["Blip3o", "load_blip3o"]
