"""A verdict's report as JSON and as one HTML page."""

from dpigu.audits.report.audit_report import JSON, PAGE, estimated, report_data, write_report
from dpigu.audits.report.membership import membership_head, membership_rows
from dpigu.audits.report.model_card import card
from dpigu.audits.report.page import estimate_rows
from dpigu.audits.report.power_picture import draw_power

__all__ = [
    "JSON",
    "PAGE",
    "card",
    "draw_power",
    "estimate_rows",
    "estimated",
    "membership_head",
    "membership_rows",
    "report_data",
    "write_report",
]
