"""Names -> codecs: where values are, and what they are; every pair goes. A new codec is one file and one line here."""

from __future__ import annotations

from sctool.export.codecs.codec import PositionCodec, ValueCodec
from sctool.export.codecs.positions.bitmask import Bitmask
from sctool.export.codecs.positions.coo import Coo
from sctool.export.codecs.positions.dense import Dense
from sctool.export.codecs.positions.gap8 import Gap8
from sctool.export.codecs.positions.pfor import Pfor
from sctool.export.codecs.positions.rice import Rice
from sctool.export.codecs.positions.rows import Rows
from sctool.export.codecs.values.codebook import Codebook
from sctool.export.codecs.values.exact import Exact
from sctool.export.codecs.values.half import Half
from sctool.export.codecs.values.int8 import Int8
from sctool.export.codecs.values.split import Split

POSITIONS: dict[str, PositionCodec] = {
    codec.name: codec for codec in (Dense(), Rice(), Pfor(), Rows(), Gap8(), Bitmask(), Coo())
}
VALUES: dict[str, ValueCodec] = {
    codec.name: codec for codec in (Exact(), Split(), Half(), Int8(), Codebook(256), Codebook(16))
}
