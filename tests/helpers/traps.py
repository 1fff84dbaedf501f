"""Objects whose unpickling does harm, unless it is refused."""

from collections.abc import Callable


class Trap:
    """Unpickling this calls `function(*arguments)`."""

    def __init__(self, function: Callable, *arguments: object):
        self.function = function
        self.arguments = arguments

    def __reduce__(self) -> tuple:
        return self.function, self.arguments
