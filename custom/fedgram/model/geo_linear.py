"""The PEFT layer of GeoLoRA and GeoDoRA: frozen A, and a row norm that needs no pass over the base weight."""

from __future__ import annotations

from typing import Any

import torch
from accelerate.utils import align_module_device
from peft import LoraConfig
from peft.tuners.lora.dora import DoraLinearLayer
from peft.tuners.lora.layer import Linear, LoraVariant
from peft.utils.integrations import dequantize_module_weight
from torch import Tensor, nn
from torch.nn.functional import linear

from fedgram.core import dora
from fedgram.errors import BackboneError

ADAPTER = "default"


def register(config: LoraConfig) -> None:
    """Make PEFT put a `GeoLinear` on every linear layer that `config` targets, and refuse any other target."""
    inside_attention = nn.modules.linear.NonDynamicallyQuantizableLinear  # its forward is never called
    config._register_custom_module({inside_attention: _refuse, nn.Linear: GeoLinear, nn.Module: _refuse})  # pyrefly: ignore[bad-assignment]


def _refuse(target: nn.Module, *_: Any, **__: Any) -> nn.Module:
    raise BackboneError(
        f"an adapter cannot be put on a {type(target).__name__}",
        where="targets",
        expected="nn.Linear, or a quantised subclass of it",
        remedy="name linear layers only, for example targets=['q_proj', 'v_proj']",
    )


class GeoLinear(Linear):
    """A PEFT LoRA layer with frozen A and the norm of `fedgram.core.dora.row_norm`.

    Attributes:
        norm_base, norm_mixing: `NormConstants`, float32 buffers that no checkpoint holds.
        m_detached: m takes no gradient; see `detached_m`.
        set_aside: the base alone computes; see `untrained`.
    """

    lora_A: Any
    lora_B: Any
    lora_magnitude_vector: Any
    out_features: int  # pyrefly: ignore[bad-override-mutable-attribute]  # PEFT: | None, for other layers
    in_features: int  # pyrefly: ignore[bad-override-mutable-attribute]
    norm_base: Tensor
    norm_mixing: Tensor
    m_detached = False
    set_aside = False
    untouched: Tensor | None = None  # W₀, once there is a residual

    @property
    def lora_variants(self) -> dict[tuple[()] | tuple[str], type[LoraVariant]]:
        return {(): GeoVariant, ("use_dora",): GeoVariant}

    def update_layer(self, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        if adapter_name != ADAPTER or self.lora_A:
            raise BackboneError(
                f"a second adapter {adapter_name!r} on one layer",
                expected=f"one adapter, named {ADAPTER!r}",
                remedy="attach to a fresh backbone, or load the checkpoint with stock PEFT",
            )
        super().update_layer(adapter_name, *args, **kwargs)

    def fix_constants(self, seed: int, name: str) -> None:
        """Set A from the seed, the norm constants from W and A, and m = ‖W‖_row. Only here is W dequantised."""
        base: Any = self.get_base_layer()
        with align_module_device(base):  # brings in a weight that the GPUs have no room for
            if self.B.is_meta:  # where such a weight has left its adapter
                for part in (self.lora_A, self.lora_B, self.lora_magnitude_vector):
                    part.to_empty(device=base.weight.device)
                nn.init.zeros_(self.B)
            a = self.A
            a.data = dora.frozen_a(seed, name, *a.shape).to(a.device)
            if self.m is None:
                return
            constants = dora.norm_constants(dequantize_module_weight(base), a)
        self.register_buffer("norm_base", constants.base, persistent=False)
        self.register_buffer("norm_mixing", constants.mixing, persistent=False)
        self.m.data = constants.base.square().sum(0).sqrt()

    @property
    def A(self) -> nn.Parameter:
        """The factor A: (r, d_in), frozen unless `attach` was told otherwise."""
        return self.lora_A[ADAPTER].weight

    @torch.no_grad()
    def set_residual(self, residual: Tensor) -> None:
        """Set W ← W₀ + R, R: (d_out, d_in), with which a method changes the base besides the adapter.

        The sum is rounded to the dtype of W: what R has below 2⁻⁹ of an entry of a bf16 base has no effect.
        """
        base: Any = self.get_base_layer()
        if self.m is not None or not _is_dense(base):
            raise BackboneError(
                f"a residual on {'DoRA' if self.m is not None else type(base).__name__}",
                expected="LoRA on a dense nn.Linear",
            )
        before = self.untouched = base.weight.detach().clone() if self.untouched is None else self.untouched
        base.weight.copy_(before + residual.to(before))

    @property
    def residual(self) -> Tensor | None:
        """The residual R as it was set last, (d_out, d_in); None while there is none."""
        base: Any = self.get_base_layer()
        return None if self.untouched is None else (base.weight - self.untouched).detach()

    @property
    def B(self) -> nn.Parameter:
        """The factor B: (d_out, r)."""
        return self.lora_B[ADAPTER].weight

    @property
    def m(self) -> nn.Parameter | None:
        """The magnitude m: (d_out,), or None in GeoLoRA."""
        return self.lora_magnitude_vector[ADAPTER].weight if ADAPTER in self.lora_magnitude_vector else None

    def factors(self) -> tuple[Tensor, Tensor, float, Tensor | None]:
        """The tensors A and B, s, and the scale c, which has a gradient to m."""
        a, b, m, s = self.A, self.B, self.m, self.scaling[ADAPTER]
        if m is None:
            return a, b, s, None
        constants = dora.NormConstants(self.norm_base, self.norm_mixing)
        if constants.base.dtype != torch.float32:
            raise BackboneError(
                f"the model was cast to {constants.base.dtype} after its adapters were attached",
                expected="norm constants in float32",
                remedy="cast the backbone first, then attach; or use torch.autocast",
            )
        scale = (m.detach() if self.m_detached else m) / dora.row_norm(b, s, constants)
        return a, b, s, scale

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        base: Any = self.get_base_layer()
        if self.set_aside:
            return base(x) if self.untouched is None else linear(x, self.untouched, base.bias)
        plain = not (args or kwargs or self.disable_adapters or self.merged or self.active_adapters != [ADAPTER])
        plain &= not self.A.requires_grad  # what follows takes A for a constant
        fits = x.dtype == base.weight.dtype or torch.is_autocast_enabled(x.device.type)
        if plain and fits and _is_dense(base):
            return dora.adapted_linear(x, base.weight, base.bias, *self.factors())
        return super().forward(x, *args, **kwargs)


def _is_dense(base: nn.Module) -> bool:
    """Whether x Wᵀ + bias is all that the base layer does, so that it may be fused with the update."""
    hooked = base._forward_hooks or base._forward_pre_hooks or "forward" in vars(base)
    return type(base).forward is nn.Linear.forward and not hooked


class GeoVariant(LoraVariant):
    """The operations by which PEFT initialises, merges and, on a base that is not dense, runs a `GeoLinear`."""

    @staticmethod
    def init(module: Any, adapter_name: str, *, config: LoraConfig, **_: Any) -> None:  # pyrefly: ignore[bad-override]
        module.frozen_peft_weight_names = {adapter_name: ("lora_A",)}
        if config.use_dora:
            # PEFT's own holder, for the names it gives to m; `fix_constants` fills it.
            holder = DoraLinearLayer(fan_in_fan_out=False)
            holder.weight = nn.Parameter(torch.empty(module.out_features))
            module.lora_magnitude_vector[adapter_name] = holder

    @staticmethod
    def forward(module: Any, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        return dora.adapt_output(result, x, module.get_base_layer().bias, *module.factors())

    @staticmethod
    def merge_safe(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        if not _is_dense(module.get_base_layer()):
            raise BackboneError(
                f"cannot merge into a {type(module.get_base_layer()).__name__}",
                remedy="save the adapter and merge it into the full-precision base with stock PEFT",
            )
        a, b, s, scale = module.factors()
        return dora.merged_weight(orig_weight, a, b, s, scale)

    @staticmethod
    def merge_unsafe(module: Any, active_adapter: str, orig_weight: Tensor) -> None:
        orig_weight.data = GeoVariant.merge_safe(module, active_adapter, orig_weight.data)

    @staticmethod
    def unmerge(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        a, b, s, scale = module.factors()
        return dora.unmerged_weight(orig_weight.data, a, b, s, scale)
