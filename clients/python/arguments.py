"""The command line: where the server is, what to do, and the settings of that."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Arguments:
    endpoint: str
    scenario: str
    settings: dict

    @staticmethod
    def parse(words):
        """Reads the words of the command line; a malformed one is a ValueError."""
        if len(words) < 2:
            raise ValueError("usage: <endpoint> <scenario> [key=value ...]")
        settings = {}
        for word in words[2:]:
            key, equals, value = word.partition("=")
            if not key or not equals:
                raise ValueError(f"a setting is written key=value, not {word}")
            settings[key] = value
        return Arguments(words[0], words[1], settings)

    def number(self, key, otherwise):
        return int(self.settings.get(key, otherwise))

    def words(self, key, otherwise=""):
        """A list written with commas."""
        return self.settings.get(key, otherwise).split(",")

    def turn(self, key, number, otherwise=""):
        """The word of a list whose turn it is at message `number`; the list begins again at its end."""
        words = self.words(key, otherwise)
        return words[number % len(words)]

    @property
    def topic(self):
        return self.settings["topic"]

    @property
    def group(self):
        return self.settings["group"]

    @property
    def prefix(self):
        return self.settings.get("prefix", "python")

    @property
    def tls(self):
        return self.settings.get("tls", "off") == "on"
