"""What every backbone has in common."""

from __future__ import annotations

from torch import Tensor, nn

from taomagic.engine.backbones.layers import batch_norm


def keras_name(module_path: str) -> str:
    """Return TAO's Keras layer name of a module: ``backbone.block_1a.conv_1`` -> ``block_1a_conv_1``."""
    return "_".join(module_path.split(".")[1:])


class Backbone(nn.Module):
    """A feature extractor for SSD.

    ``forward`` maps images [N, C, H, W] to a tuple: the *taps*, early maps for small objects, and behind them the last
    map.

    Attributes
    ----------
    tap_channels
        Channels of the taps.
    out_channels
        Channels of the last map.
    """

    tap_channels: tuple[int, ...]
    out_channels: int

    def blocks(self) -> dict[int, list[nn.Module]]:
        """Return the modules of each id of ``freeze_blocks``."""
        raise NotImplementedError


class LayeredBackbone(Backbone):
    """A backbone whose layers lie side by side under their Keras names.

    A *unit* is a convolution with the batch normalisation and the activation behind it, as far as it has them, and goes
    by the convolution's name.
    """

    def __init__(self) -> None:
        super().__init__()
        self._units: dict[str, tuple[str, ...]] = {}
        self._blocks: dict[int, list[str]] = {}

    def add_unit(
        self,
        name: str,
        layer: nn.Conv2d,
        *,
        block: int,
        norm: str | None = None,
        activation: tuple[str, nn.Module] | None = None,
    ) -> int:
        """Add a unit.

        Parameters
        ----------
        name, layer
            The convolution and its Keras name.
        block
            Its id in ``freeze_blocks``.
        norm
            Keras name of its batch normalisation.
        activation
            Keras name of its activation, and the activation.

        Returns
        -------
        int
            The channels of its output.
        """
        parts = [name]
        self.add_module(name, layer)
        if norm is not None:
            self.add_module(norm, batch_norm(layer.out_channels))
            parts.append(norm)
        if activation is not None:
            self.add_module(*activation)
            parts.append(activation[0])
        self._units[name] = tuple(parts)
        self._blocks.setdefault(block, []).append(name)
        return layer.out_channels

    def unit(self, name: str, x: Tensor) -> Tensor:
        """Apply the unit of that name."""
        for part in self._units[name]:
            x = self.get_submodule(part)(x)
        return x

    def blocks(self) -> dict[int, list[nn.Module]]:
        """Return the convolutions of each id of ``freeze_blocks``."""
        return {block: [self.get_submodule(n) for n in names] for block, names in self._blocks.items()}
