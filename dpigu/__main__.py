"""`python -m dpigu` is the command `dpigu`."""

from dpigu.cli.dpigu.main import main

main(prog_name="dpigu")
