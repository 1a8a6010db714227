"""Requests and answers: paths, parameters, media types, lists and views."""
