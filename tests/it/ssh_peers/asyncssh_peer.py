"""AsyncSSH in either role of the tunnel; what it is to do comes as JSON in the only argument.

Every channel is a mirror: what comes is sent back, and its end is answered with an end. As a relay it opens the channels
to any client that authenticates, as a gateway it accepts them; both are the reverse of what AsyncSSH does by itself.
"""

import asyncio
import json
import sys

import asyncssh
from asyncssh import connection


def say(*words):
    print(*words, flush=True)


class Mirror(asyncssh.SSHTCPSession):
    def __init__(self):
        self.channel = None

    def connection_made(self, channel):
        self.channel = channel

    def data_received(self, data, datatype):
        self.channel.write(data)

    def eof_received(self):
        self.channel.write_eof()
        return True  # The other direction goes on.

    def pause_writing(self):
        self.channel.pause_reading()

    def resume_writing(self):
        self.channel.resume_reading()

    def connection_lost(self, error):
        say("channel lost", error)


def mirror(conn, plan):
    channel = conn.create_tcp_channel(window=plan["window"], max_pktsize=plan["packet"])
    return channel, Mirror()


def algorithms(plan):
    return {
        "kex_algs": plan["kex"],
        "encryption_algs": plan["ciphers"],
        "mac_algs": plan["macs"],
        "compression_algs": ["none"],
        "rekey_bytes": plan["rekey_bytes"],
        "keepalive_interval": plan["keepalive"],
        "keepalive_count_max": 1000,
    }


def count_exchanges():
    done = connection.SSHConnection.send_newkeys
    count = 0

    def counted(self, *arguments):
        nonlocal count
        count += 1
        say("exchange", count, self.get_extra_info("send_cipher"))
        return done(self, *arguments)

    connection.SSHConnection.send_newkeys = counted


class Relay(asyncssh.SSHServer):
    def __init__(self, plan):
        self.plan = plan
        self.conn = None
        self.tasks = []

    def connection_made(self, conn):
        self.conn = conn

    def auth_completed(self):
        say("authenticated", self.conn.get_extra_info("username"))
        self.tasks = [asyncio.ensure_future(self.open()) for _ in range(self.plan["channels"])]

    async def open(self):
        channel, session = mirror(self.conn, self.plan)
        try:
            if self.plan["fields"]:
                await channel.connect(lambda: session, "localhost", 0, "192.0.2.1", 40000)
            else:
                # As deployed relays do, without the four fields of RFC 4254 section 7.2.
                await channel._open_forward(lambda: session, b"direct-tcpip")
            say("opened")
        except asyncssh.Error as error:
            say("not opened:", error)

    def connection_lost(self, error):
        say("lost:", error)


async def relay(plan):
    server = await asyncssh.listen(
        plan["host"],
        0,
        server_factory=lambda: Relay(plan),
        server_host_keys=[(plan["key"], plan["certificate"])],
        authorized_client_keys=asyncssh.import_authorized_keys("cert-authority " + plan["ca"]),
        **algorithms(plan),
    )
    say("listening", server.sockets[0].getsockname()[1])
    await server.wait_closed()


async def gateway(plan):
    def accept(conn, packet):
        target = packet.get_string(), packet.get_uint32()
        origin = packet.get_string(), packet.get_uint32()
        packet.check_end()
        say("asked for", target, origin)
        return mirror(conn, plan)

    connection.SSHClientConnection._process_direct_tcpip_open = accept
    conn = await asyncssh.connect(
        plan["host"],
        plan["port"],
        config=None,
        username=plan["user"],
        agent_path=None,
        client_keys=[(plan["key"], plan["certificate"])],
        known_hosts=([], [asyncssh.import_public_key(plan["ca"])], []),
        host_key_alias=plan["principal"],
        server_host_key_algs="default",
        **algorithms(plan),
    )
    say("authenticated", conn.get_extra_info("send_cipher"))
    await conn.wait_closed()
    say("lost")


plan = json.loads(sys.argv[1])
count_exchanges()
asyncio.run({"relay": relay, "gateway": gateway}[plan["role"]](plan))
