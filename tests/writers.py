"""A watcher beside the application: whether two databases could be written at the same moment."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from docker.models.containers import Container

# In an application server, as its user of the databases: every 0.1 s until nobody listens. Of two, the first is asked
# again after the second: writable before and after, it was so while the second was, and neither changed in between.
# One that is frozen or cut off does not count, for the application does not reach it either.
LOOK = """
import json, select, sys, pymysql
password, open_ = open("/run/secrets/mysql_app_password").read().strip(), {}
def writable(name):
    try:
        if name not in open_:
            open_[name] = pymysql.connect(host=name, user="app", password=password, connect_timeout=0.3,
                                          read_timeout=0.3, write_timeout=0.3, autocommit=True, ssl_disabled=True)
        with open_[name].cursor() as cursor:
            cursor.execute("SELECT @@global.read_only")
            return cursor.fetchone()[0] == 0
    except (pymysql.MySQLError, OSError, RuntimeError):
        connection = open_.pop(name, None)
        if connection is not None:
            connection._force_close()
        return False
looks = answers = both = 0
while not select.select([sys.stdin], [], [], 0.1)[0]:
    looks += 1
    first, second = (writable(name) for name in sys.argv[1:])
    answers += first or second
    both += first and second and writable(sys.argv[1])
print(json.dumps({"looks": looks, "answers": answers, "both": both}))
"""


@contextmanager
def watching(server: Container, databases: tuple[str, ...]) -> Iterator[dict[str, int]]:
    """Ask both databases from an application server, which must not be started anew meanwhile.

    Gives, in the end, how many looks there were; at how many answers a database could be written, and at how many both.
    """
    seen: dict[str, int] = {}
    ask = ["docker", "exec", "--interactive", str(server.id), "as-server", "python3", "-c", LOOK, *databases]
    pipe = subprocess.PIPE
    with subprocess.Popen(ask, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as watcher:
        try:
            yield seen
        finally:
            said, wrong = watcher.communicate(timeout=30)
        assert watcher.returncode == 0, f"nobody watched to the end:\n{wrong}"
        seen.update(json.loads(said))
