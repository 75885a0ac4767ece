//! Events: log lines with an id that stays the same, for scripts, alerts and `journalctl -x`.
//!
//! Those that protocol.md §6 lists are contract lines, whose text is part of the interface too: a test compares it, and
//! nothing else in the program may spell it. In the journal an event has its id as `MESSAGE_ID`; the catalogue
//! explains each.

use std::fmt;

/// One event. Log it as `message_id = event.id` and `"{event}"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// A UUID as 32 hexadecimal digits, never used for anything else.
    pub id: &'static str,
    /// The line.
    pub text: &'static str,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $id:literal $text:literal;)*) => {
        $($(#[$doc])* pub const $name: Event = Event { id: $id, text: $text };)*
        /// Every event.
        pub const TABLE: &[Event] = &[$($name),*];
    };
}

events! {
    /// The gateway's first tunnel is up.
    GATEWAY_STARTED = "b043ea7127b24e7da4e5351c77d67d07" "Gateway started successfully";
    /// The platform issued the gateway's credentials.
    GATEWAY_REGISTERED = "2f522ea059514b94b52bb7b0e40b0413" "Successfully registered gateway and received certificates";
    /// A heartbeat succeeded: the platform reached this gateway through the relay.
    GATEWAY_REACHABLE = "26a33608608b4dddaa04633596cb9a07" "Gateway is reachable by Infisical";
    /// The relay listens and has its credentials.
    RELAY_STARTED = "7baece8247d3405a9f843b03bf1f0ffa" "Relay server started successfully";
    /// A heartbeat succeeded: the platform reached this relay.
    RELAY_REACHABLE = "2f9884920a094350b74af296270f90dd" "Relay is reachable by Infisical";
    /// An attempt to get a tunnel failed, or the tunnel that was up ended.
    NOT_CONNECTED = "24029908bfaa43f8b7ab3cfab59a594d" "not connected; trying again";
    /// A tunnel is up that is not the first one.
    TUNNEL_UP_AGAIN = "2a79dd40a75443b28a73c2b364558f98" "the tunnel is up again";
    /// New certificates are in use.
    CREDENTIALS_RENEWED = "e6eb0bc2f62f4edc955541119a5c30dd" "credentials renewed";
    /// The platform gave no new certificates.
    CREDENTIALS_NOT_RENEWED = "e5fb9549ebd8435db02ed9c2259b8f5d" "credentials not renewed; the old ones are still in use";
    /// The platform did not reach this gateway, although its tunnel is up.
    HEARTBEAT_FAILED = "9fb11b642b97496894e55c171a10ad2d" "heartbeat failed; the tunnel stays up";
    /// The platform did not reach this relay, although it serves.
    RELAY_HEARTBEAT_FAILED = "816aabca474a4b5b8f3b10a77919db81" "heartbeat failed; the relay goes on serving";
    /// The configuration was read again and is in use.
    RELOADED = "08b54b1e74ab419c88aacf925c07557f" "configuration reloaded";
    /// The configuration was read again and is wrong.
    RELOAD_REFUSED = "e4852657b6b04df8aa0005ac9a4c92b6" "configuration not reloaded; the old one is still in use";
    /// A part of the role failed and was restarted.
    TASK_RESTARTED = "3dbd8002378d47f98f53215eee3c8a8d" "a task panicked and was started again; this is a defect, please report it";
    /// The supervisor does not answer: no more WATCHDOG=1 until it does.
    WATCHDOG_STALLED = "fca25b54a15a4859bd437b9db8021d98" "no progress; the service manager is not told that all is well";
    /// The error that ends the program.
    FAILED = "1765bb0f0c99441788830fa5953c6a75" "infisical failed";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::TABLE;

    #[test]
    fn ids_are_message_ids_and_nothing_is_there_twice() {
        let ids: HashSet<_> = TABLE.iter().map(|event| event.id).collect();
        let texts: HashSet<_> = TABLE.iter().map(|event| event.text).collect();
        assert!(!TABLE.is_empty() && ids.len() == TABLE.len() && texts.len() == TABLE.len());
        let is_hex = |c: char| c.is_ascii_digit() || matches!(c, 'a'..='f');
        assert!(
            ids.iter()
                .all(|id| id.len() == 32 && id.chars().all(is_hex))
        );
    }
}
