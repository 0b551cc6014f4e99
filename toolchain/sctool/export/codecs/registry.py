"""Codec name -> codec. A new codec is one file and one line here."""

from __future__ import annotations

from sctool.export.codecs.codec import Codec
from sctool.export.codecs.dense import Dense
from sctool.export.codecs.gap8 import Gap8

CODECS: dict[str, Codec] = {"dense": Dense(), "gap8": Gap8()}
