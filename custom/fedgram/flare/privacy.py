"""The site's own last gate, named in its ``local/privacy.json``: no job can take it out or change it."""

from __future__ import annotations

from pathlib import Path

from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from torch import Tensor

from fedgram.config.site import find_site_config
from fedgram.errors import UpdateRejected
from fedgram.flare import outbound, wire
from fedgram.training.codec import is_listed


class OnlyTheContract(Filter):
    """A filter that passes what :mod:`fedgram.flare.outbound` lists, and keeps any other reply at the site.

    The reply is written anew from the listed fields, so that nothing travels in FLARE's headers beside them.
    """

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Filter a task's result before it leaves; an error raised here becomes an error reply without text."""
        code = shareable.get_return_code()
        if code != ReturnCode.OK:
            reply, kind = make_reply(code), shareable.get_header(wire.ERROR_HEADER)
            if isinstance(kind, str) and kind.isidentifier():
                reply.set_header(wire.ERROR_HEADER, kind)
            return reply
        model = FLModelUtils.from_shareable(shareable)
        params, meta = model.params or {}, model.meta or {}
        local = Path(wire.workspace_of(fl_ctx).get_site_config_dir())
        config = find_site_config(local, str(fl_ctx.get_identity_name()))
        fields = [field for part in outbound.leaves(config.methods, config.share) for field in part.fields]
        unlisted = sorted(name for name in (*params, *meta) if not is_listed(name, fields))
        if unlisted:
            raise UpdateRejected(f"a reply with {unlisted} stays here", expected="what fedgram lists as outbound")
        if not all(type(value) is Tensor and value.is_contiguous() for value in params.values()):
            raise UpdateRejected("a reply that holds anything but plain tensors stays here")
        return FLModelUtils.to_shareable(
            FLModel(params_type=model.params_type, params=params, meta=meta, current_round=model.current_round)
        )
