//! Log lines that scripts and the documentation wait for (protocol.md §6). They are part of the
//! interface: a test compares the text, and nothing else in the program may spell them.

/// The gateway's first tunnel is up.
pub const GATEWAY_STARTED: &str = "Gateway started successfully";
/// The platform issued the gateway's credentials.
pub const GATEWAY_REGISTERED: &str = "Successfully registered gateway and received certificates";
/// A heartbeat succeeded: the platform reached this gateway through the relay.
pub const GATEWAY_REACHABLE: &str = "Gateway is reachable by Infisical";
/// The relay listens and has its credentials.
pub const RELAY_STARTED: &str = "Relay server started successfully";
/// A heartbeat succeeded: the platform reached this relay.
pub const RELAY_REACHABLE: &str = "Relay is reachable by Infisical";
