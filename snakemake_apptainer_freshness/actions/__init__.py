"""One module a verb, shared by the hook and the command line: gather facts, compare, act."""
