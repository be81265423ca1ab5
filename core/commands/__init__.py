"""The subcommands, one module each: HELP (one line), EXAMPLE, `add_arguments(parser)`, `execute(args) -> exit code`.

None of them imports torch or jsonschema at module level: `tunesmith --help` imports all of them.
"""
