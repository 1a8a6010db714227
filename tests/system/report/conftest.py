"""A browser for the tests of pages."""

from tests.system.report.browser import browser

__all__ = ["browser"]
