"""The commands: `dpigu` trains, accounts and describes; `dpaudit` audits."""

if __name__ != "dpigu.cli":
    raise ImportError("import dpigu.cli, or take what you need from dpigu")
