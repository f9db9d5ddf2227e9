"""The clients: what each needs to be built, how it is built, how it is started, and what it can do."""

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[1]
# Build results; the Node.js packages alone must lie beside their program.
BUILT = SOURCES.parent / "target" / "clients"
NEWEST_JAVA = "5.2.0"
OLDEST_JAVA = "5.0.3"
# Longest that one command of a build may take, its downloads included.
BUILD_S_MAX = 900


@dataclass(frozen=True)
class Client:
    """One official client in one way of use."""

    name: str
    language: str
    settings: dict = field(default_factory=dict)
    scenarios: frozenset = frozenset()
    # This client's own start time on a fast server, in ms; it must stay below.
    start_ms_max: int = 1000
    extends_lease: bool = True
    priority_min: int = 0
    # Sends bodies of several MiB.
    sends_large: bool = True
    # A listener may have a lite topic wait without failing its message.
    suspends: bool = False
    # Says which lite topics it subscribes to, and understands when the server takes one away.
    lists_lite_topics: bool = False
    # A message whose listener failed is called again before those behind it in its message group.
    waits_for_failed: bool = True
    # What this client shows of a due time: so many ms, and no parts of them.
    due_unit_ms: int = 1
    version: str = ""

    def shown_due_ms(self, due_ms):
        """A due time as this client shows it."""
        return due_ms // self.due_unit_ms * self.due_unit_ms

    def start(self, home):
        """The command line and the environment of a run whose logs go to `home`."""
        environment = {**os.environ, "HOME": str(home)}
        return [str(word) for word in _COMMANDS[self.language](self, home)], environment


_EXCHANGES = frozenset({"matrix", "large", "kinds"})
_SIMPLE = frozenset({"basic", "retry", "unknown", "fifo", "delay", "transaction", "survive"}) | _EXCHANGES
_LISTENING = frozenset({"push", "dead-letter", "fifo-push"})
_NEW = frozenset({"recall", "priority", "lite", "lite-fail", "lite-exclusive"})
_EVERYTHING = _SIMPLE | _LISTENING | _NEW
_ENCRYPTED = frozenset({"basic"})
# Older than the switch between plaintext and TLS.
_OLD = frozenset({"basic", "retry", "fifo", "delay", "transaction"}) | _LISTENING
CLIENTS = [
    Client("java", "java", scenarios=_EVERYTHING, version=NEWEST_JAVA, lists_lite_topics=True),
    Client("java-tls", "java", {"tls": "on"}, _ENCRYPTED, version=NEWEST_JAVA),
    Client("java-5.0.3", "java", {"tls": "on"}, _OLD, version=OLDEST_JAVA),
    # After its start this client looks for the server's settings once a second. Of what it received
    # at once it goes on behind a failed message, which has its next call later.
    # It sends at most 2 MiB.
    Client(
        "go",
        "go",
        scenarios=_EVERYTHING,
        start_ms_max=2000,
        waits_for_failed=False,
        sends_large=False,
        suspends=True,
    ),
    Client("go-tls", "go", {"tls": "on"}, _ENCRYPTED, start_ms_max=2000),
    # The only one with a simple consumer of lite topics.
    Client("python", "python", scenarios=_EVERYTHING | {"lite-simple"}),
    # This client takes a message of priority 0 for one without.
    Client("node", "node", scenarios=_EVERYTHING | {"topics"}, priority_min=1, suspends=True),
    Client("rust", "rust", scenarios=_SIMPLE, extends_lease=False, due_unit_ms=1000),
]

_NEEDS = {
    "java": ["java", "mvn"],
    "go": ["go"],
    "python": ["python3"],
    "node": ["node", "npm"],
    "rust": ["cargo"],
}
_COMMANDS = {
    "java": lambda client, home: _java_command(client.version, home),
    "go": lambda client, home: [BUILT / "go" / "program"],
    "python": lambda client, home: [python(), SOURCES / "python" / "program.py"],
    "node": lambda client, home: ["node", SOURCES / "node" / "program.js"],
    "rust": lambda client, home: [BUILT / "rust" / "debug" / "centaur-client-program"],
}


def python():
    """The interpreter of the virtual environment that holds the Python client."""
    return BUILT / "python" / "bin" / "python"


def build(clients):
    """Builds the programs of `clients`; ends the run with a sentence when a tool is missing or fails."""
    languages = sorted({client.language for client in clients})
    for language in languages:
        for tool in _NEEDS[language]:
            if shutil.which(tool) is None:
                raise SystemExit(f"the {language} client cannot be built: {tool} is not on the PATH")
    for language in languages:
        print(f"building the {language} client", flush=True)
        _BUILDS[language]()


def build_python():
    """A virtual environment with the pinned packages; made again when the pins change."""
    environment, pins = BUILT / "python", SOURCES / "python" / "requirements.txt"
    done = environment / "requirements.done"
    if done.exists() and done.read_text() == pins.read_text():
        return
    _run("python3", "-m", "venv", "--clear", environment)
    _run(environment / "bin" / "pip", "install", "-q", "-r", pins)
    shutil.copy(pins, done)


def _build_java():
    """One program, and each client's packages."""
    _maven("package", f"-Dclient.version={NEWEST_JAVA}", f"-Dout={_java_folder(NEWEST_JAVA)}")
    libraries = f"-DoutputDirectory={_java_folder(OLDEST_JAVA)}/lib"
    _maven("dependency:copy-dependencies", "-DincludeScope=runtime", f"-Dclient.version={OLDEST_JAVA}", libraries)


def _maven(*words):
    command = ["mvn", "-q", "-B", *words]
    # Nothing is asked of the network once everything is there.
    if _exit_code([*command, "-o"], SOURCES / "java", capture_output=True) != 0:
        _run(*command, folder=SOURCES / "java")


def _build_go():
    _run("go", "build", "-o", BUILT / "go" / "program", ".", folder=SOURCES / "go")


def _build_node():
    folder = SOURCES / "node"
    installed, wanted = folder / "node_modules" / ".package-lock.json", folder / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
        _run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", folder=folder)


def _build_rust():
    _run("cargo", "build", "-q", "--locked", "--target-dir", BUILT / "rust", folder=SOURCES / "rust")


_BUILDS = {
    "java": _build_java,
    "go": _build_go,
    "python": build_python,
    "node": _build_node,
    "rust": _build_rust,
}


def _java_folder(version):
    return BUILT / f"java-{version}"


def _java_command(version, home):
    # A small machine runs several of these at once: less compiling, less memory.
    frugal = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m"]
    classes = f"{_java_folder(NEWEST_JAVA)}/program.jar:{_java_folder(version)}/lib/*"
    return ["java", *frugal, f"-Duser.home={home}", "-cp", classes, "centaur.client.Program"]


def _run(*words, folder=None):
    command = [str(word) for word in words]
    code = _exit_code(command, folder)
    if code != 0:
        raise SystemExit(f"{' '.join(command)} failed with exit code {code}")


def _exit_code(command, folder, **output):
    """Runs a command of a build; one that hangs ends the run with a sentence."""
    polite = ["nice", "-n", "10", *command]
    try:
        return subprocess.run(polite, cwd=folder, timeout=BUILD_S_MAX, check=False, **output).returncode
    except subprocess.TimeoutExpired:
        raise SystemExit(f"{' '.join(command)} did not end in {BUILD_S_MAX} s") from None
