"""Row maps, one record's row in and one out, with the post maps that lead back."""

from dpigu.mechanisms.rows.adaclip import AdaClip
from dpigu.mechanisms.rows.codes import Decode, Encode
from dpigu.mechanisms.rows.geo_clip import GeoClip, GeoRestorer
from dpigu.mechanisms.rows.low_rank import LowRank, LowRankRestorer
from dpigu.mechanisms.rows.mac_adam import MacAdam
from dpigu.mechanisms.rows.projections import Decompose, Lift, Project, ProjectReleased, Recompose
from dpigu.mechanisms.rows.sparsifiers import RowTopK
from dpigu.mechanisms.rows.standardizers import EmaStandardizer, GroupStandardizer

__all__ = [
    "AdaClip",
    "Decode",
    "Decompose",
    "EmaStandardizer",
    "Encode",
    "GeoClip",
    "GeoRestorer",
    "GroupStandardizer",
    "Lift",
    "LowRank",
    "LowRankRestorer",
    "MacAdam",
    "Project",
    "ProjectReleased",
    "Recompose",
    "RowTopK",
]
