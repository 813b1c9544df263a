"""`cascade demo`: a worker is killed in the middle of a cascade, and the session goes on by itself."""

from celery_cascade.demo.run import run_demo

__all__ = ["run_demo"]
