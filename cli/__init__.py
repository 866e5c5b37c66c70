"""The commands: `dpigu` trains, accounts and describes; `dpaudit` audits."""
