//! Both sides over loopback sockets: real SSH sessions as gateways, real TLS sessions as clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ssh_key::certificate::CertType;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::hub::Deadlines;
use super::testing::{
    Authority, Deaf, Given, ID, LIMIT, OTHER_ID, OTHER_ROLES_CA, Relay, STRANGERS_CA,
    UserCertificate, gateway, identity, rest, soon, until,
};
use crate::config::settings::RelayLimits;
use crate::names::GatewayId;
use crate::ssh::{self, ChannelStream, client};

#[tokio::test]
async fn client_ending_first_hears_the_gateway() {
    let relay = Relay::good().await;
    let gateway = relay.gateway().await;
    let (mut client, mut channel) = relay.bridge(&gateway).await;

    client.write_all(b"question").await.expect("written");
    client.shutdown().await.expect("half-closed");
    assert_eq!(rest(&mut channel).await, b"question");
    let long = vec![0x5a; 3 * 1024 * 1024];
    let (sent, received) = tokio::join!(
        async {
            channel.write_all(&long).await?;
            channel.shutdown().await
        },
        rest(&mut client)
    );
    sent.expect("sent");
    assert!(received == long);
    until(|| relay.hub.channels.keys() == 0).await;
}

#[tokio::test]
async fn gateway_ending_first_hears_the_client() {
    let relay = Relay::good().await;
    let gateway = relay.gateway().await;
    let (mut client, mut channel) = relay.bridge(&gateway).await;

    channel.write_all(b"greeting").await.expect("written");
    channel.shutdown().await.expect("half-closed");
    assert_eq!(rest(&mut client).await, b"greeting");
    client.write_all(b"late answer").await.expect("written");
    client.shutdown().await.expect("closed");
    assert_eq!(rest(&mut channel).await, b"late answer");
    until(|| relay.hub.channels.keys() == 0).await;
}

#[tokio::test]
async fn vanishing_client_closes_its_channel_only() {
    let relay = Relay::good().await;
    let gateway = relay.gateway().await;
    let (client, mut channel) = relay.bridge(&gateway).await;
    let (mut other, mut other_channel) = relay.bridge(&gateway).await;
    drop(client);
    assert_eq!(rest(&mut channel).await, b"");
    other.write_all(b"x").await.expect("written");
    assert_eq!(soon(other_channel.read_u8()).await.expect("a byte"), b'x');
}

#[tokio::test]
async fn vanishing_gateway_ends_clients_and_registration() {
    let relay = Relay::start(Given {
        deadlines: Deadlines {
            close_wait: Duration::from_millis(20),
            ..Given::default().deadlines
        },
        ..Given::default()
    })
    .await;
    let gateway = relay.gateway().await;
    let (mut client, channel) = relay.bridge(&gateway).await;
    drop((gateway, channel));
    until(|| relay.hub.registry().len() == 0).await;
    let mut all = Vec::new();
    // An end in any form, but an end.
    let _ = soon(client.read_to_end(&mut all)).await;
    until(|| relay.hub.channels.keys() == 0).await;
}

#[tokio::test]
async fn registration_ends_with_a_panic() {
    let relay = Relay::good().await;
    let _gateway = relay.gateway().await;
    let id = GatewayId::try_new(ID).expect("an id");
    let other = GatewayId::try_new(OTHER_ID).expect("an id");
    let tunnel = relay.hub.find(&id).await.expect("registered");
    let hub = Arc::clone(&relay.hub);
    let failing = tokio::runtime::Handle::current().spawn(async move {
        let peer = SocketAddr::from(([192, 0, 2, 1], 7));
        let registered = hub.register(other, peer, tunnel);
        assert_eq!(hub.registry().len(), 2);
        assert!(registered.is_none(), "it fails while it is registered");
    });
    assert!(failing.await.expect_err("a panic").is_panic());
    assert_eq!(relay.hub.registry().len(), 1);
    assert!(relay.hub.find(&id).await.is_some());
}

#[tokio::test]
async fn new_connection_takes_over_from_stalled_one() {
    let relay = Relay::start(Given {
        deadlines: Deadlines {
            probe: Duration::from_millis(50),
            ..Given::default().deadlines
        },
        ..Given::default()
    })
    .await;
    let is_deaf = Arc::new(AtomicBool::new(false));
    let stream = Deaf {
        tcp: TcpStream::connect(relay.ssh).await.expect("connected"),
        is_deaf: Arc::clone(&is_deaf),
    };
    let config = gateway(ID, &UserCertificate::of(ID));
    let (reader, writer) = tokio::io::split(stream);
    let stalled = client::connect(reader, writer, &config)
        .await
        .expect("a session");
    relay.until_registered(None).await;
    let old = relay.tunnel().expect("registered");
    is_deaf.store(true, Ordering::SeqCst);

    let gateway = relay.gateway().await;
    assert!(!old.session.is_ended(), "the old one is still being probed");
    let (mut client, mut channel) = relay.bridge(&gateway).await;
    client.write_all(b"x").await.expect("written");
    assert_eq!(soon(channel.read_u8()).await.expect("a byte"), b'x');
    soon(old.session.ended()).await;
    assert_eq!(relay.hub.registry().len(), 1, "the new one stays");
    drop(stalled);
}

#[tokio::test]
async fn replaced_live_gateway_learns_why() {
    let relay = Relay::good().await;
    let first = relay.gateway().await;
    let second = relay.gateway().await;
    assert!(soon(first.accept()).await.is_none());
    let end = first.take_end();
    assert!(
        matches!(
            &end,
            ssh::Error::Disconnected { reason: ssh::DisconnectReason::TOO_MANY_CONNECTIONS, description }
                if description.contains("took over")
        ),
        "{end:?}"
    );
    let (_client, _channel) = relay.bridge(&second).await;
}

#[tokio::test]
async fn only_certificates_for_this_relay_are_accepted() {
    let relay = Relay::good().await;
    let good = || UserCertificate::of(ID);
    let bad: [(&str, UserCertificate); 7] = [
        (
            "another CA",
            UserCertificate {
                ca: STRANGERS_CA,
                ..good()
            },
        ),
        (
            "the other role's CA",
            UserCertificate {
                ca: OTHER_ROLES_CA,
                ..good()
            },
        ),
        (
            "another relay's",
            UserCertificate {
                key_id: "client-relay-2".to_owned(),
                ..good()
            },
        ),
        (
            "another gateway's",
            UserCertificate {
                principals: vec!["someone".to_owned()],
                ..good()
            },
        ),
        (
            "no principal",
            UserCertificate {
                principals: vec![],
                ..good()
            },
        ),
        (
            "expired",
            UserCertificate {
                expired: true,
                ..good()
            },
        ),
        (
            "a host certificate",
            UserCertificate {
                kind: CertType::Host,
                ..good()
            },
        ),
    ];
    for (what, certificate) in bad {
        let error = relay.try_gateway(ID, &certificate).await.expect_err(what);
        assert!(
            matches!(error, ssh::Error::AuthenticationRefused),
            "{what}: {error:?}"
        );
        assert_eq!(relay.hub.registry().len(), 0, "{what}");
    }
    relay.gateway().await;
}

#[tokio::test]
async fn expired_certificate_is_no_port_check() {
    let expired = UserCertificate {
        expired: true,
        ..UserCertificate::of(ID)
    };
    let relay = identity(&Authority::new(), LIMIT);
    let config = gateway(ID, &expired);
    let (a, b) = tokio::io::duplex(64 * 1024);
    let (a, b) = (tokio::io::split(a), tokio::io::split(b));
    let (client, server) = tokio::join!(
        client::connect(a.0, a.1, &config),
        ssh::server::accept(b.0, b.1, &relay.ssh)
    );
    client.expect_err("refused");
    let error = server.expect_err("refused");
    assert!(
        matches!(&error, ssh::Error::Certificate(why) if matches!(why, ssh::cert::Error::Expired(_))),
        "{error:?}"
    );
}

#[tokio::test]
async fn gateway_is_its_certificates_first_principal() {
    let relay = Relay::good().await;
    let certificate = UserCertificate::of(ID);
    let session = relay.try_gateway("gateway-name", &certificate).await;
    relay.until_registered(None).await;
    session.expect("a session");
}

#[tokio::test]
async fn client_for_unknown_gateway_is_closed_cleanly() {
    let relay = Relay::start(Given {
        deadlines: Deadlines {
            arrival: Duration::from_millis(10),
            ..Given::default().deadlines
        },
        ..Given::default()
    })
    .await;
    let _gateway = relay.gateway().await;
    for name in [GatewayId::HEALTH_CHECK, "unknown", "not an id"] {
        let mut client = relay.client(name).await;
        // What it sent meanwhile does not turn the end into a reset.
        client.write_all(b"hello").await.expect("written");
        assert_eq!(rest(&mut client).await, b"", "{name}");
    }
    assert_eq!(relay.hub.channels.keys(), 0);
}

#[tokio::test]
async fn client_just_before_its_gateway_is_served() {
    let relay = Relay::good().await;
    let mut client = relay.client(ID).await;
    client.write_all(b"early").await.expect("written");
    let gateway = relay.gateway().await;
    let mut channel = gateway.accept().await.expect("a channel");
    let mut early = [0; 5];
    channel.read_exact(&mut early).await.expect("read");
    assert_eq!(&early, b"early");
}

#[tokio::test]
async fn refused_channel_closes_client_cleanly() {
    let relay = Relay::good().await;
    let gateway = relay.gateway().await;
    gateway.stop_accepting();
    let mut client = relay.client(ID).await;
    assert_eq!(rest(&mut client).await, b"");
}

#[tokio::test]
async fn unopened_channel_times_out() {
    let relay = Relay::start(Given {
        deadlines: Deadlines {
            open: Duration::from_millis(50),
            ..Given::default().deadlines
        },
        ..Given::default()
    })
    .await;
    let is_deaf = Arc::new(AtomicBool::new(false));
    let stream = Deaf {
        tcp: TcpStream::connect(relay.ssh).await.expect("connected"),
        is_deaf: Arc::clone(&is_deaf),
    };
    let config = gateway(ID, &UserCertificate::of(ID));
    let (reader, writer) = tokio::io::split(stream);
    let stalled = client::connect(reader, writer, &config)
        .await
        .expect("a session");
    relay.until_registered(None).await;
    is_deaf.store(true, Ordering::SeqCst);
    let mut client = relay.client(ID).await;
    assert_eq!(rest(&mut client).await, b"");
    drop(stalled);
    until(|| relay.hub.channels.keys() == 0).await;
}

#[tokio::test]
async fn a_client_of_another_ca_is_refused() {
    let relay = Relay::good().await;
    let _gateway = relay.gateway().await;
    // With TLS 1.3 the client learns of it only when it reads.
    let refused = match relay.try_client(&relay.authority.stranger(ID)).await {
        Err(error) => error,
        Ok(mut client) => soon(client.read_u8()).await.expect_err("refused"),
    };
    assert!(refused.to_string().contains("alert"), "{refused}");
    assert_eq!(relay.hub.channels.keys(), 0);
}

#[tokio::test]
async fn slow_handshake_is_cut_on_both_ports() {
    let short = Duration::from_millis(50);
    let relay = Relay::start(Given {
        deadlines: Deadlines {
            tls_handshake: short,
            ..Given::default().deadlines
        },
        ssh_handshake: short,
        ..Given::default()
    })
    .await;
    for address in [relay.tls, relay.ssh] {
        let mut silent = TcpStream::connect(address).await.expect("connected");
        let mut all = Vec::new();
        let _ = soon(silent.read_to_end(&mut all)).await;
    }
    until(|| {
        let hub = &relay.hub;
        let newcomers = hub.ssh_handshakes.sources() + hub.tls_handshakes.sources();
        hub.sources.keys() + newcomers == 0
    })
    .await;
}

#[tokio::test]
async fn connections_beyond_a_sources_share_are_closed() {
    let relay = Relay::start(Given {
        limits: RelayLimits {
            per_source: 2,
            ..RelayLimits::default()
        },
        ..Given::default()
    })
    .await;
    let gateway = relay.gateway().await;
    let (client, channel) = relay.bridge(&gateway).await;
    let mut third = TcpStream::connect(relay.tls).await.expect("connected");
    let mut all = Vec::new();
    let _ = soon(third.read_to_end(&mut all)).await;
    assert!(all.is_empty());
    // An end without `close_notify` is one half's end; the gateway's is the other's.
    drop((client, channel));
    until(|| relay.hub.channels.keys() == 0).await;
    let (_client, _channel) = relay.bridge(&gateway).await;
}

#[tokio::test]
async fn excess_channels_and_clients_are_refused() {
    for limits in [
        RelayLimits {
            per_gateway: 1,
            ..RelayLimits::default()
        },
        RelayLimits {
            clients: 1,
            ..RelayLimits::default()
        },
    ] {
        let relay = Relay::start(Given {
            limits,
            ..Given::default()
        })
        .await;
        let gateway = relay.gateway().await;
        let (mut first, mut channel) = relay.bridge(&gateway).await;
        let mut second = relay.client(ID).await;
        assert_eq!(rest(&mut second).await, b"");
        first.write_all(b"x").await.expect("written");
        assert_eq!(soon(channel.read_u8()).await.expect("a byte"), b'x');
    }
}

#[tokio::test]
async fn new_credentials_keep_live_sessions() {
    let relay = Relay::good().await;
    let gateway = relay.gateway().await;
    let (mut client, mut channel) = relay.bridge(&gateway).await;
    let other = Authority::new();
    relay.current.send_replace(identity(&other, LIMIT));

    client.write_all(b"x").await.expect("written");
    assert_eq!(soon(channel.read_u8()).await.expect("a byte"), b'x');
    let pki = other.client(ID);
    let (newer, newer_channel) = tokio::join!(relay.try_client(&pki), gateway.accept());
    newer.expect("the new CA is trusted");
    newer_channel.expect("over the old session");
    let stale = relay.try_client(&relay.authority.client(ID)).await;
    assert!(stale.is_err(), "the old CA's server is gone");
}

#[tokio::test]
async fn stopping_relay_drains_clients_and_disconnects_gateways() {
    let relay = Relay::good().await;
    let gateway = relay.gateway().await;
    let (mut client, mut channel) = relay.bridge(&gateway).await;
    // A byte on its way proves that the bridge is complete.
    client.write_all(b"x").await.expect("written");
    assert_eq!(soon(channel.read_u8()).await.expect("a byte"), b'x');
    relay.stop.cancel();
    client.write_all(b"last bytes").await.expect("written");
    client.shutdown().await.expect("closed");
    assert_eq!(rest(&mut channel).await, b"last bytes");
    channel.shutdown().await.expect("closed");
    assert_eq!(rest(&mut client).await, b"");
    drop((client, channel));
    assert!(soon(gateway.accept()).await.is_none());
    let end = gateway.take_end();
    assert!(
        matches!(&end, ssh::Error::Disconnected { description, .. } if description.contains("going away")),
        "{end:?}"
    );
    assert!(relay.scope.finish(LIMIT).await, "the relay has stopped");
}

/// What a gateway receives at the end of its session.
async fn disconnect_message(gateway: &client::Session) -> String {
    assert!(soon(gateway.accept()).await.is_none());
    gateway.take_end().to_string()
}

/// Sends a byte through a bridge.
async fn passes(client: &mut (impl AsyncWrite + Unpin), channel: &mut ChannelStream) {
    client.write_all(b"x").await.expect("written");
    client.flush().await.expect("sent");
    assert_eq!(soon(channel.read_u8()).await.expect("a byte"), b'x');
}

#[tokio::test]
async fn stopping_relay_releases_idle_gateways_first() {
    let relay = Relay::good().await;
    let busy = relay.gateway().await;
    let idle = relay.another_gateway(OTHER_ID).await;
    let (mut client, mut channel) = relay.bridge(&busy).await;
    passes(&mut client, &mut channel).await;
    relay.stop.cancel();
    let end = disconnect_message(&idle).await;
    assert!(end.contains("going away"), "{end}");
    until(|| relay.hub.registry().len() == 1).await;
    passes(&mut client, &mut channel).await;
    drop((client, channel));
    let end = disconnect_message(&busy).await;
    assert!(end.contains("going away"), "{end}");
    assert!(relay.scope.finish(LIMIT).await, "the relay has stopped");
}

#[tokio::test]
async fn stopping_relay_cuts_ports_and_handshakes() {
    let relay = Relay::good().await;
    let gateway = relay.gateway().await;
    let (mut client, mut channel) = relay.bridge(&gateway).await;
    passes(&mut client, &mut channel).await;
    let mut shaking = Vec::new();
    for address in [relay.ssh, relay.tls] {
        shaking.push(TcpStream::connect(address).await.expect("connected"));
    }
    until(|| {
        let hub = &relay.hub;
        hub.ssh_handshakes.sources() + hub.tls_handshakes.sources() == 2
    })
    .await;
    relay.stop.cancel();
    for mut stream in shaking {
        let mut all = Vec::new();
        let _ = soon(stream.read_to_end(&mut all)).await;
    }
    // Others may have the ports while bridges finish.
    for address in [relay.ssh, relay.tls] {
        TcpListener::bind(address).await.expect("a free port");
    }
    passes(&mut client, &mut channel).await;
}

#[tokio::test]
async fn grace_limits_a_stop() {
    let relay = Relay::start(Given {
        deadlines: Deadlines {
            grace: Duration::from_millis(50),
            // The end of the session alone must not be what ends the bridge.
            close_wait: 4 * LIMIT,
            ..Given::default().deadlines
        },
        ..Given::default()
    })
    .await;
    let gateway = relay.gateway().await;
    let (mut client, mut channel) = relay.bridge(&gateway).await;
    passes(&mut client, &mut channel).await;
    // The client reads no more, so that what is on its way to it stays there.
    let much = vec![0x5a; 16 * 1024 * 1024];
    let sending = async {
        let _ = channel.write_all(&much).await;
    };
    let stopping = async {
        relay.stop.cancel();
        let end = disconnect_message(&gateway).await;
        assert!(end.contains("going away"), "{end}");
    };
    tokio::join!(sending, stopping);
    until(|| relay.hub.clients_connected() == 0).await;
    assert!(relay.scope.finish(LIMIT).await, "the relay has stopped");
}

#[tokio::test]
async fn unopened_channel_does_not_delay_a_stop() {
    let relay = Relay::good().await;
    // No one accepts its channels, so the client waits.
    let gateway = relay.gateway().await;
    let _client = relay.client(ID).await;
    until(|| relay.hub.channels.keys() == 1).await;
    relay.stop.cancel();
    until(|| relay.hub.registry().len() == 0).await;
    let end = gateway.take_end().to_string();
    assert!(end.contains("going away"), "{end}");
}

#[tokio::test]
async fn excess_gateway_is_refused_with_reason() {
    let relay = Relay::start(Given {
        limits: RelayLimits {
            gateways: 1,
            ..RelayLimits::default()
        },
        ..Given::default()
    })
    .await;
    let first = relay.gateway().await;
    let certificate = UserCertificate::of(OTHER_ID);
    let second = relay.try_gateway(OTHER_ID, &certificate).await;
    // It may hear so before it learns that it has proved itself.
    let end = match second {
        Ok(session) => disconnect_message(&session).await,
        Err(error) => error.to_string(),
    };
    assert!(end.contains("as many gateways as it may have"), "{end}");
    let again = relay.gateway().await;
    let (mut client, mut channel) = relay.bridge(&again).await;
    passes(&mut client, &mut channel).await;
    drop(first);
}

/// Connections that say nothing, as many as are let in.
async fn silent(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(TcpStream::connect(address).await.expect("connected"));
    }
    all
}

#[tokio::test]
async fn silent_peers_give_way_to_newcomers() {
    const HANDSHAKES: usize = 16;
    const SHARE: usize = 14;
    let relay = Relay::start(Given {
        limits: RelayLimits {
            handshakes: HANDSHAKES,
            ..RelayLimits::default()
        },
        ..Given::default()
    })
    .await;
    // All of one source, and on both ports as many as it may have.
    let mut held = silent(relay.tls, SHARE).await;
    let mut more = silent(relay.ssh, SHARE).await;
    until(|| relay.hub.sources.all() == 2 * SHARE).await;
    let newcomer = TcpStream::connect(relay.tls).await.expect("connected");
    let mut all = Vec::new();
    let oldest = held.first_mut().expect("one of them");
    let _ = soon(oldest.read_to_end(&mut all)).await;
    assert_eq!(relay.hub.sources.all(), 2 * SHARE, "its place is taken");
    let gateway = relay.gateway().await;
    let oldest = more.first_mut().expect("one of them");
    let _ = soon(oldest.read_to_end(&mut all)).await;
    let (mut client, mut channel) = relay.bridge(&gateway).await;
    passes(&mut client, &mut channel).await;
    drop((held, more, newcomer, client, channel));
    until(|| relay.hub.sources.all() == 1).await;
}
