"""Asks Frontgate for a redirect, over and over, until SIGTERM: load.py ADDRESS PORT FILE.

FILE then has the number of good answers, that of failures, and some of those.
"""

import signal, socket, sys, threading

stop, counts, lock = threading.Event(), {"good": 0, "bad": []}, threading.Lock()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
address = (sys.argv[1], int(sys.argv[2]))


def ask():
    while not stop.is_set():
        try:
            with socket.create_connection(address, 20) as s:
                s.sendall(b"GET / HTTP/1.1\r\nHost: old.contoso.com\r\nConnection: close\r\n\r\n")
                answer = b"".join(iter(lambda: s.recv(65536), b""))
            good = answer.startswith(b"HTTP/1.1 302 ")
            why = answer[:100]
        except OSError as e:
            good, why = False, e
        with lock:
            if good:
                counts["good"] += 1
            else:
                counts["bad"].append(repr(why))


threads = [threading.Thread(target=ask) for _ in range(8)]
for t in threads:
    t.start()
stop.wait()
for t in threads:
    t.join()
with open(sys.argv[3], "w") as f:
    print(counts["good"], len(counts["bad"]), *counts["bad"][:3], file=f)
