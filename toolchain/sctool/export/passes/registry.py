"""The passes over a dense graph, in their order. A new pass is one file and one line here."""

from __future__ import annotations

from sctool.export.passes.dead_channels import RemoveDeadChannels
from sctool.export.passes.fold_constants import FoldConstants
from sctool.export.passes.graph_pass import GraphPass
from sctool.export.passes.share_duplicates import ShareDuplicates

PASSES: dict[str, GraphPass] = {step.name: step for step in (FoldConstants(), RemoveDeadChannels(), ShareDuplicates())}
